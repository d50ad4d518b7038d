"""The silences of flows are found again by the next owner, each as it was stored last."""

from __future__ import annotations

from router.storage.silences import Silence

BEGAN = Silence("shop", 1000, 4000, 500)


async def test_silences_are_found_after_a_restart_as_they_were_stored_last(cluster):
    silences = cluster.storage.silences
    await silences.save(BEGAN)
    await silences.save(Silence("bank", 1, 2, 3))
    await silences.save(BEGAN._replace(announced=1, end_ms=5000))
    await silences.remove("bank")
    await silences.remove("none")
    await cluster.restart()
    assert await cluster.storage.silences.all() == [Silence("shop", 1000, 4000, 500, 5000, 1)]
