#!/bin/sh
set -eu
mariadb <<'END'
CREATE DATABASE IF NOT EXISTS wordpress;
GRANT ALL ON wordpress.* TO 'wordpress'@'localhost' IDENTIFIED BY 'change-me';
END
