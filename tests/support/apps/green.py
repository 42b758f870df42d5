"""What an application may do to its green thread, by path."""

ENDED = []


def app(env, start):
    import eventlet

    said = b""
    match env["PATH_INFO"]:
        case "/spawn-exit":
            eventlet.spawn(exit_now)
            eventlet.sleep(0.01)
        case "/link":
            eventlet.getcurrent().link(lambda _: ENDED.append("linked"))
        case "/kill":
            eventlet.kill(eventlet.getcurrent())
        case "/ended":
            said = ",".join(ENDED).encode()
    start("200 OK", [("Content-Type", "text/plain")])
    return [said]


def exit_now():
    raise SystemExit(5)


def until_one_is_cut(env, start):
    """All end when one of them is cut: that one asks for /first."""
    import eventlet

    try:
        while not ENDED:
            eventlet.sleep(30 if env["PATH_INFO"] == "/first" else 0.001)
    finally:
        ENDED.append(True)
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
