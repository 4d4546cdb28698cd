'use strict'
// http-proxy, one process: node server.js PORT UPSTREAM. It pipes the bytes of an upgraded connection.

const http = require('http')
const [port, upstream] = process.argv.slice(2)
const proxy = require('http-proxy').createProxyServer({
  target: `http://${upstream}`,
  agent: new http.Agent({ keepAlive: true, maxSockets: 4096 }),
  ws: true
})
// A client or an upstream that goes away is not the end of the process.
proxy.on('error', (error, request, answer) => answer && answer.destroy && answer.destroy())

const server = http.createServer((request, answer) => proxy.web(request, answer))
server.on('upgrade', (request, socket, head) => {
  socket.on('error', () => socket.destroy())
  proxy.ws(request, socket, head)
})
server.listen({ host: '127.0.0.1', port: Number(port), backlog: 4096 })
