-- POST of 1 MiB, the same bytes each time.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/octet-stream"
wrk.body = string.rep("0123456789abcdef", 65536)
dofile(os.getenv("BENCH_REPORT_LUA"))
