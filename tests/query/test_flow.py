"""What flows along paths: nobody is lost on the way, whatever is cut and put together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spanflow.query.pictures.flow import Way, flow_of

steps = st.sampled_from(["a", "b", "c", "d", "e", "…", "other"])
ends = st.fixed_dictionaries(
    {}, optional={end: st.integers(0, 5) for end in ("completed", "abandoned", "failed")}
)


@st.composite
def ways(draw):
    ended = draw(ends)
    rest = draw(st.integers(0, 3))
    path = tuple(draw(st.lists(steps, min_size=1, max_size=9)))
    return Way(path, sum(ended.values()) + rest, ended)


@given(st.lists(ways(), max_size=12), st.integers(2, 8), st.integers(2, 5))
def test_whoever_sets_out_arrives(found, most_columns, most_nodes):
    flow = flow_of(found, most_columns, most_nodes)
    nodes = [node for column in flow.columns for node in column]
    everyone = sum(way.engagements for way in found)
    assert sum(node.weight for node in nodes if node.column == 0) == everyone
    assert sum(node.weight for node in nodes if node.end) == everyone
    for node in nodes:
        if node.column:
            assert sum(link.weight for link in node.comes) == node.weight
        if node.end:
            assert node.goes == []
        else:
            assert sum(link.weight for link in node.goes) == node.weight
        for link in node.goes:
            assert link.target.column == node.column + 1
    for end in ("completed", "abandoned", "failed"):
        ended = sum(node.weight for node in nodes if node.end == end)
        assert ended == sum(way.ends.get(end, 0) for way in found)


@given(st.lists(ways(), max_size=12), st.integers(2, 8), st.integers(2, 5))
def test_a_column_never_has_more_steps_than_asked_for(found, most_columns, most_nodes):
    flow = flow_of(found, most_columns, most_nodes)
    assert len(flow.columns) <= most_columns + 1
    for column in flow.columns:
        named = [node.name for node in column if node.end is None]
        assert len(named) <= most_nodes
        assert len(set(named)) == len(named)


def test_rare_steps_are_put_together_and_long_paths_cut():
    found = [
        Way(("in", name, "x", "y"), weight, {})
        for name, weight in zip("abcd", (9, 5, 2, 1), strict=True)
    ]
    flow = flow_of(found, 3, 3)
    assert [[node.name for node in column] for column in flow.columns] == [
        ["in"],
        ["a", "b", "2 others"],
        ["later steps"],
        ["open or died"],
    ]
    assert [node.weight for node in flow.columns[1]] == [9, 5, 3]
