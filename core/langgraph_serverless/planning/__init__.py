"""What a deployment will need and cost, on paper: arithmetic and a small simulation, without a database and without AWS.

``workload`` has what is put in, ``workers`` plays a day of the queue, ``footprint`` has what was measured of this server,
``estimate`` brings them together, ``limits`` says what gives way first as a load grows. Nothing here is imported by a server.
"""
