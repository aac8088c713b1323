"""A web application that shows where its settings come from."""

import os

from flask import Flask, jsonify

app = Flask(__name__)


@app.get("/")
def index():
    # GREETING: the image's ENV, or what cloud-init wrote into /etc/environment of this VM.
    return f"<h1>{os.environ.get('GREETING', 'Hello!')}</h1>"


@app.get("/health")
def health():
    return jsonify(status="ok")
