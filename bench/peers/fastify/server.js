'use strict'
// fastify + @fastify/http-proxy (undici), one process: node server.js PORT UPSTREAM

const [port, upstream] = process.argv.slice(2)
const app = require('fastify')({ logger: false, keepAliveTimeout: 300_000 })

app.register(require('@fastify/http-proxy'), {
  upstream: `http://${upstream}`,
  undici: { connections: 256, pipelining: 1, keepAliveTimeout: 60_000 }
})

app.listen({ host: '127.0.0.1', port: Number(port), backlog: 4096 }).catch((error) => {
  console.error(error)
  process.exit(1)
})
