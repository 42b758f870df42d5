"""Computes in deep stacks, in each request and in a native thread beside them (offloaded, where there is `apid.offload`)."""


def deep(depth):
    return deep(depth - 1) + 1 if depth else 0


def compute():
    for _ in range(300):
        deep(50)


def factory(global_conf):
    def app(environ, start_response):
        environ.get("apid.offload", lambda function: function())(compute)
        compute()
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    return app
