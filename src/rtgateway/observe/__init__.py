"""What is known of requests when they are over: metrics, statistics, access log, pressure."""
