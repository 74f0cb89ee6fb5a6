-- wrk: the same POST over and over.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '["' .. string.rep("x", 298) .. '"]'
