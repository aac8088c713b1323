"""A page whose framework came by pip."""

import importlib.metadata

from flask import Flask

app = Flask(__name__)


@app.get("/")
def index():
    return f"Flask {importlib.metadata.version('flask')} by pip\n"


app.run(host="0.0.0.0", port=5000)
