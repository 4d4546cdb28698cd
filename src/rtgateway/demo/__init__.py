"""Small services to try the gateway with, and the gateway in front of them: ``rtgateway demo``.

Begin with `rtgateway.demo.launch`. The services are ordinary ``twisted.web`` applications that
run in the gateway's own process; nothing else in the project imports this package.
"""
