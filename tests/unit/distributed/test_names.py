"""Names of coordinators: what Ray shows, and what the database fences."""


def test_coordinators_of_two_clusters_share_a_name_but_never_an_id():
    # Loads Ray, which reads its environment there and then; tests that start a cluster set it first.
    from agentflow.distributed.coordinator import actor_name, coordinator_id, coordinator_name

    name = coordinator_name(0)
    first, second = coordinator_id(name), coordinator_id(name)
    assert first != second
    assert actor_name(first) == actor_name(second) == name
