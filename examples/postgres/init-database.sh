#!/bin/sh
# Makes the cluster, once: beside its place and then renamed, so that a VM that is killed meanwhile begins again.
set -eu
data=/var/lib/postgresql/data draft=/var/lib/postgresql/draft
PATH=/usr/lib/postgresql/15/bin:$PATH
[ ! -e "$data/PG_VERSION" ] || exit 0

rm -rf "$draft"
initdb --auth-local=trust --auth-host=scram-sha-256 --pgdata "$draft"
echo "host all all all scram-sha-256" >> "$draft/pg_hba.conf"
echo "listen_addresses = '*'" >> "$draft/postgresql.conf"
pg_ctl --pgdata "$draft" --wait --options "-c listen_addresses=" start
for file in /docker-entrypoint-initdb.d/*.sql; do
    psql --set ON_ERROR_STOP=1 --file "$file"
done
pg_ctl --pgdata "$draft" --wait stop
[ ! -d "$data" ] || rmdir "$data"
mv "$draft" "$data"
sync
