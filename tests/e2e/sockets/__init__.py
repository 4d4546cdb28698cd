"""What tests of WebSockets start: a client and an instance around a gateway, and real peers."""
