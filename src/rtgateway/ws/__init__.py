"""The WebSocket side: which upgrades are served, both handshakes, and the relay of frames."""
