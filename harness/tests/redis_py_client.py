"""redis-py's RedisCluster through a reshard and a failover. It writes without pause; what it wrote and what went wrong
it tells at the end, and the test judges.

Usage: redis_py_client.py HOST PORT

Says `writing` after a first round over all keys. On standard input: `mark` (answers `marked ERRORS`, the number of
errors so far), `end` (answers with one JSON object and ends):
  acked   {key: [[element, seconds since the epoch], ...]}
  errors  [text, ...]: errors that an application should try again
  foreign [text, ...]: other errors
"""

import json
import queue
import sys
import threading
import time

from redis.cluster import RedisCluster
from redis.exceptions import (
    ClusterDownError,
    ClusterError,
    ConnectionError,
    TimeoutError,
    TryAgainError,
)

RETRY = (ClusterDownError, ClusterError, ConnectionError, TimeoutError, TryAgainError, OSError)


def main():
    host, port = sys.argv[1], int(sys.argv[2])
    cluster = RedisCluster(host=host, port=port, socket_timeout=2, socket_connect_timeout=2)
    orders = queue.Queue()
    threading.Thread(target=lambda: [orders.put(line.strip()) for line in sys.stdin], daemon=True).start()

    keys = [f"py:{i}" for i in range(300)]
    acked = {key: [] for key in keys}
    errors, foreign = [], []
    element = 0
    while True:
        for key in keys:
            element += 1
            try:
                cluster.rpush(key, element)
                acked[key].append([element, time.time()])
            except RETRY as error:
                errors.append(f"{type(error).__name__}: {error}")
                time.sleep(0.02)
            except Exception as error:  # whatever it is, the test must hear of it
                foreign.append(f"{type(error).__name__}: {error}")
            while not orders.empty():
                order = orders.get()
                if order == "mark":
                    print(f"marked {len(errors)}", flush=True)
                if order == "end":
                    print(json.dumps({"acked": acked, "errors": errors, "foreign": foreign}), flush=True)
                    return
        if element == len(keys):
            print("writing", flush=True)


if __name__ == "__main__":
    main()
