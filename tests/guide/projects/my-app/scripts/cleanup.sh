#!/bin/sh
echo "after" >> /var/lib/hooks
