-- A POST as an OpenStack client sends it: ten headers, 1 KiB of JSON.
local metadata = {}
for i = 1, 16 do metadata[i] = string.format('"key%02d": "%s"', i, string.rep("v", 40)) end
local body = '{"server": {"name": "bench", "imageRef": "70a599e0-31e7-49b7-b260-868f441e862b", "flavorRef": "1", "metadata": {'
  .. table.concat(metadata, ", ") .. '}}}'
body = body .. string.rep(" ", 1024 - #body)
wrk.method = "POST"
wrk.body = body
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Accept"] = "application/json"
wrk.headers["Accept-Encoding"] = "gzip, deflate"
wrk.headers["User-Agent"] = "python-novaclient"
wrk.headers["X-Auth-Token"] = "gAAAAABm0d3f0f9d8c7b6a5948372615049382716fedcba9876543210"
wrk.headers["X-OpenStack-Nova-API-Version"] = "2.1"
wrk.headers["OpenStack-API-Version"] = "compute 2.1"
wrk.headers["X-Openstack-Request-Id"] = "req-3e0b9c3a-1d1d-4f6f-9a3b-1c9d0d3c7a11"
wrk.headers["X-Forwarded-For"] = "192.0.2.7"
