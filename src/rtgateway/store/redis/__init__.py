"""What is kept in Redis. Imported only where Redis is configured: it needs a running reactor."""
