# One end of SCTP connections, which Bun has no sockets for: `sctp.py serve NAME PORT` answers each with its name and the client's
# address; `sctp.py ask ADDRESS PORT TIMES` prints what as many connections heard, as JSON.
import json
import socket
import sys

IPPROTO_SCTP = 132


def serve(name, port):
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_SCTP)
    listener.bind(("0.0.0.0", port))
    listener.listen(16)
    print("ready", flush=True)
    while True:
        connection, (client, _) = listener.accept()
        connection.send(f"{name} {client}".encode())
        connection.close()


def ask(address, port):
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_SCTP)
    connection.settimeout(3)
    try:
        connection.connect((address, port))
        return connection.recv(200).decode()
    except OSError as error:
        return f"- {type(error).__name__}"
    finally:
        connection.close()


if sys.argv[1] == "serve":
    serve(sys.argv[2], int(sys.argv[3]))
else:
    print(json.dumps([ask(sys.argv[2], int(sys.argv[3])) for _ in range(int(sys.argv[4]))]))
