"""A fleet of simulated Cisco Meeting Servers on loopback addresses: the opposite party for tests and demos.

An independent reading of the MMP manual: nothing here is imported from `workflows`, `workers` or `api`, nor they from
here. A simulated server is called an *appliance*. Start reading in `appliance.py`; `server.py` puts appliances on the
network.
"""
