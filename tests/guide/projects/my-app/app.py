#!/usr/bin/python3
"""Tells where its settings come from, and that it was asked to stop."""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

db_url = os.getenv("DATABASE_URL")
with open("/secrets/api-key") as stream:
    api_key = stream.read()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        facts = {
            "database": db_url,
            "key_ends_in": api_key[-4:],
            "mode": os.getenv("ENV"),
            "pid": os.getpid(),
        }
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(facts).encode())

    def log_message(self, *arguments):
        pass


def stop(number, frame):
    print("asked to stop", flush=True)
    sys.exit(0)


signal.signal(signal.SIGTERM, stop)
print(f"listening, key of {len(api_key)} characters", flush=True)
HTTPServer(("", int(sys.argv[2])), Handler).serve_forever()
