"""Websockets by Flask-Sock, which takes the connection's socket over: /echo says everything backwards."""

from __future__ import annotations

import flask
import flask_sock

app = flask.Flask(__name__)
sock = flask_sock.Sock(app)


@app.route("/")
def index() -> str:
    """No websocket."""
    return "hello"


@sock.route("/echo")
def echo(channel: flask_sock.Server) -> None:
    """Answer until "bye" comes."""
    while (text := channel.receive()) != "bye":
        channel.send(text[::-1])


@sock.route("/timed")
def timed(channel: flask_sock.Server) -> None:
    """Wait a tenth of a second for a message."""
    channel.send(repr(channel.receive(timeout=0.1)))


@sock.route("/failing")
def failing(channel: flask_sock.Server) -> None:
    """Fail once it is open."""
    raise LookupError(channel.receive())


def factory(global_conf: object, **local_conf: object) -> flask.Flask:
    """Make the application, for paste; `ping` is the interval of pings in seconds."""
    if "ping" in local_conf:
        app.config["SOCK_SERVER_OPTIONS"] = {"ping_interval": float(str(local_conf["ping"]))}
    return app
