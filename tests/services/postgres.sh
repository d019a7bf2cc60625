# Makes a database cluster if there is none, and becomes PostgreSQL. Arguments: the folder of its programs, its own, where it listens.
set -e
programs=$1 data=$2 listen=$3
export LC_ALL=C PATH="$programs:/bin"
[ -e "$data/PG_VERSION" ] || initdb -D "$data" -U postgres -A trust --no-sync --no-instructions > /dev/null
exec postgres -D "$data" -c listen_addresses="${listen%:*}" -c port="${listen##*:}" -c unix_socket_directories="$data" \
    -c fsync=off -c shared_buffers=16MB -c max_connections=20
