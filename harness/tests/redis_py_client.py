"""redis-py's RedisCluster through a failover: writes, waits to be told of a kill, writes on until every slot range
takes writes again, and reads everything back that was acknowledged after that.

Usage: redis_py_client.py HOST PORT   (says `writing`, then waits for a line on standard input)
"""

import sys
import time

from redis.cluster import RedisCluster
from redis.exceptions import RedisError


def main():
    host, port = sys.argv[1], int(sys.argv[2])
    cluster = RedisCluster(host=host, port=port, socket_timeout=2, socket_connect_timeout=2)
    keys = [f"key:{i}" for i in range(300)]
    for key in keys:
        cluster.set(key, "before")
    print("writing", flush=True)
    sys.stdin.readline()

    deadline = time.monotonic() + 30
    pending = set(keys)
    while pending:
        if time.monotonic() > deadline:
            sys.exit(f"{len(pending)} keys take no writes 30 s after the kill")
        for key in sorted(pending):
            try:
                if cluster.set(key, "after"):
                    pending.discard(key)
            except (RedisError, OSError):
                time.sleep(0.05)
    print("recovered", flush=True)

    wrong = [key for key in keys if cluster.get(key) != b"after"]
    if wrong:
        sys.exit(f"{len(wrong)} keys lost their value: {wrong[:5]}")
    print("read back", flush=True)


if __name__ == "__main__":
    main()
