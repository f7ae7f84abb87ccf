"""What a run emits, on its way to readers: wire frames, the event log on Redis Streams, the hub that reads it."""
