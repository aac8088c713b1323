#!/bin/sh
# fetch-secrets.sh
socat VSOCK-CONNECT:2:9000 STDOUT > /secrets/api-key
