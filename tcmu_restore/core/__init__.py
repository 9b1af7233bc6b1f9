"""The pure core: no I/O, clock, thread, asyncio, chance or logging in here."""
