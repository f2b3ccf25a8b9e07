-- What the faulty front does to requests, set by /_fault?name=value&...
--   delay=ms jitter=ms   each request is passed on after delay +- jitter
--   rate=bytes/s         the speed of each answer, after what one second brings
-- and, in percent of the requests:
--   phang                never an answer
--   preset               the connection is reset instead of an answer
--   p503 p429 p403 ...   this status and an S3 error instead of an answer (p200: an error that looks like success)
--   pcut                 the answer's body ends, with its connection, after `cut` bytes (1000)
--   pstall               the answer's body falls silent after `cut` bytes
-- with these details:
--   method=GET match=text   only requests of this method, with this text in their uri
--   limit=n                 after n faults all is well again (delay and rate stay)
--   retry=s code=Name       the Retry-After header and the S3 error code of a status
--   seed=n                  the same requests in the same order meet the same faults
local M = {}

local numbers = { delay = true, jitter = true, rate = true, phang = true, preset = true, pcut = true, pstall = true,
                  cut = true, limit = true, retry = true, seed = true }
local texts = { method = true, match = true, code = true }
local codes = { [403] = 'AccessDenied', [404] = 'NoSuchKey', [409] = 'OperationAborted', [412] = 'PreconditionFailed',
                [429] = 'TooManyRequests', [501] = 'NotImplemented', [503] = 'SlowDown' }

local settings = {}
local statuses = {}  -- those with a percentage

function M.set()
  local new, new_statuses = {}, {}
  for name, value in pairs(ngx.req.get_uri_args()) do
    local status = tonumber(name:match('^p(%d%d%d)$'))
    if texts[name] then
      new[name] = value
    elseif (numbers[name] or status) and tonumber(value) then
      new[name] = tonumber(value)
      if status then table.insert(new_statuses, status) end
    else
      ngx.status = 400
      ngx.say('no such fault: ', name, '=', tostring(value))
      return
    end
  end
  table.sort(new_statuses)
  settings, statuses = new, new_statuses
  if settings.seed then math.randomseed(settings.seed) end
  ngx.say('ok')
end

local function concerned()
  return (not settings.method or ngx.req.get_method() == settings.method)
    and (not settings.match or ngx.var.request_uri:find(settings.match, 1, true) ~= nil)
end

local function hit(kind)
  local percent = settings['p' .. kind]
  if not percent or settings.limit == 0 or math.random() * 100 >= percent then return false end
  if settings.limit then settings.limit = settings.limit - 1 end
  ngx.var.fault = kind
  return true
end

local function answer(status)
  ngx.req.clear_header('If-None-Match') -- nginx would make a 304 of a 200
  ngx.status = status
  ngx.header['Content-Type'] = 'application/xml'
  ngx.header['Retry-After'] = settings.retry
  ngx.print('<?xml version="1.0" encoding="UTF-8"?><Error><Code>', settings.code or codes[status] or 'InternalError',
    '</Code><Message>injected</Message></Error>')
  return ngx.exit(status)
end

function M.before_request()
  if not concerned() then return end
  local delay = (settings.delay or 0) + (math.random() * 2 - 1) * (settings.jitter or 0)
  if delay > 0 then ngx.sleep(delay / 1000) end
  if settings.rate then ngx.var.limit_rate = settings.rate end
  if hit('hang') then ngx.sleep(3600) end
  if hit('reset') then return ngx.exit(444) end
  for _, status in ipairs(statuses) do
    if hit(status) then return answer(status) end
  end
  if hit('cut') or hit('stall') then ngx.ctx.left = settings.cut or 1000 end
end

-- Called for each piece of the body, and a last time without one.
function M.in_body()
  local left, piece = ngx.ctx.left, ngx.arg[1]
  if not left then return end
  if left == 0 and ngx.var.fault == 'cut' then return ngx.ERROR end
  if #piece > left then
    -- That is all of a stall: the client was promised more, and its connection stays.
    ngx.arg[1] = piece:sub(1, left)
    left = 0
  else
    left = left - #piece
  end
  ngx.ctx.left = left
end

return M
