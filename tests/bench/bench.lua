-- wrk's part of the benchmark: arguments METHOD BODY_BYTES TOKENS_FILE.
-- With one token the request is static, which costs the generator least; with more they take turns.
local turn, prepared = 0, {}

function init(args)
  wrk.method = args[1]
  local size = tonumber(args[2])
  if size > 0 then wrk.body = string.rep("x", size) end
  local tokens = {}
  for token in io.lines(args[3]) do tokens[#tokens + 1] = token end
  wrk.headers["X-API-KEY"] = tokens[1]
  if #tokens == 1 then return end
  for number, token in ipairs(tokens) do
    wrk.headers["X-API-KEY"] = token
    prepared[number] = wrk.format()
  end
  request = function()
    turn = turn % #prepared + 1
    return prepared[turn]
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d %d\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
