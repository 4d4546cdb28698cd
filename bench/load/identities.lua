-- Requests of 1,000 identities in turn, told apart by a header.
local requests = {}
local next_one = 0
function init(args)
  for number = 1, 1000 do
    requests[number] = wrk.format(nil, nil, { ["X-User"] = "user-" .. number })
  end
end
function request()
  next_one = next_one % 1000 + 1
  return requests[next_one]
end
dofile(os.getenv("BENCH_REPORT_LUA"))
