#!/bin/sh
echo "before" >> /var/lib/hooks
