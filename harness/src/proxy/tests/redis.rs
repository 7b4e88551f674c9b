//! A redis-server master and its replica with the proxy between them: the tap's offsets against the servers' own.
