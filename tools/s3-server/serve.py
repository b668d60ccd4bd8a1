"""Serves S3 on a free port of this machine until its standard input ends.

The first line on stdout is the URL; the bucket that is named on the command line exists by then.

Requests are served one at a time: moto looks whether a key is there and writes it afterwards, so
two requests at once could both create it (`sheaf verify-store` finds that when Python switches
threads often enough). Served in turn, a conditional write is what it says.
"""

import logging
import sys
import threading

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from werkzeug.test import Client


def main(bucket):
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, app, threaded=False)
    url = f"http://127.0.0.1:{server.server_port}"
    made = Client(app).put(f"/{bucket}", base_url=url)
    if made.status_code != 200:
        sys.exit(f"bucket `{bucket}` could not be made: {made.status}")
    print(url, flush=True)

    def stop():
        # Whoever started this holds the other end, so it never outlives its tests.
        sys.stdin.read()
        server.shutdown()

    threading.Thread(target=stop, daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
