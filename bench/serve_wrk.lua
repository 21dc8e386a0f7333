-- Sends the requests of a folder, in turn: `body-0`, `body-1` …, each with the headers of `headers` (one `Name: value` a line).
local bodies, position = {}, 0

local function content(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read("*a")
  file:close()
  return text
end

function init(args)
  local folder = args[1]
  for line in content(folder .. "/headers"):gmatch("[^\n]+") do
    local name, value = line:match("^([^:]+): (.*)$")
    wrk.headers[name] = value
  end
  local number = 0
  while true do
    local body = content(folder .. "/body-" .. number)
    if not body then break end
    bodies[#bodies + 1] = wrk.format("POST", nil, nil, body)
    number = number + 1
  end
end

function request()
  position = position % #bodies + 1
  return bodies[position]
end

function done(summary, latency, requests)
  local bad = summary.errors.status + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format("\nRESULT %d %d %d %.6f %.6f %.6f\n", summary.requests, bad, summary.duration,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6, latency.mean / 1e6))
end
