# Runs one private Postgres server for as long as the process at the other end of its standard input lives.
# That process holds the pipe open and never writes; however it ends, SIGKILL included, the pipe closes and
# the server is stopped from here. Being the server's parent, this shell needs no pid file and leaves nothing
# behind.
#
# Arguments: directory of the server's programs, home directory of the cluster, `kept` or `temporary`, an
# option for initdb or nothing, then what the server itself gets.
set -u
bin=$1 home=$2 lifetime=$3 initdb_option=$4
shift 4
exec 3<&0 </dev/null >>"$home/postgres.log" 2>&1
rm -f "$home/stopping"

if [ ! -e "$home/data" ]; then
    # Made beside its place and then renamed, so that a half-made cluster is never taken for a whole one.
    rm -rf "$home/data.new"
    "$bin/initdb" -D "$home/data.new" --username=postgres --pwfile="$home/password" --auth=scram-sha-256 \
        --encoding=UTF8 --no-locale --no-instructions ${initdb_option:+"$initdb_option"} 3<&- || exit 1
    mv "$home/data.new" "$home/data" || exit 1
fi

"$bin/postgres" -D "$home/data" "$@" 3<&- &
server=$!

# A kept cluster shuts down in order (fast: clients are dropped, everything is written). One that is about to
# be deleted need not write anything.
signal=INT
[ "$lifetime" = temporary ] && signal=QUIT

(
    read -r _ <&3
    : >"$home/stopping"
    # Repeated, because a server that has only just been forked still ignores the signal.
    pause=0.1
    while kill -s "$signal" "$server"; do
        sleep "$pause"
        [ "$pause" = 0.1 ] && pause=0.3 || pause=1
    done
) 2>/dev/null &
reader=$!

wait "$server"
code=$?
if [ -e "$home/stopping" ]; then
    # Its next signal finds nobody, and it ends. Killing it instead would orphan its `sleep`.
    wait "$reader"
    rm -f "$home/stopping"
    [ "$lifetime" = temporary ] && rm -rf "$home"
    exit 0
fi

# The server ended by itself: its log is for the owner to read, who then removes the directory.
kill "$reader" 2>/dev/null
exit "$code"
