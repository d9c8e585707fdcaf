"""How panels look: one function a kind, so that the same thing looks the same on every dashboard.

It knows no metric, no table and no query.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fields import COLOURS, coloured, named
from fields import shown as shown_as
from grafana_foundation_sdk.builders import (
    barchart,
    common,
    dashboard,
    nodegraph,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    FieldColorModeId,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fields import Column
    from grafana_foundation_sdk.cog.builder import Builder
    from grafana_foundation_sdk.cog.variants import Dataquery

__all__ = [
    "categories",
    "flow",
    "lines",
    "numbers",
    "page",
    "rows",
    "section",
    "stacked",
]


def page(
    title: str, uid: str, about: str, since: str, variables: Sequence[Builder[Any]]
) -> dashboard.Dashboard:
    """Begin a dashboard.

    Args:
        title: Its name.
        uid: Its place in Grafana's addresses.
        about: What it is for.
        since: How far back it looks at first, as `now-7d`.
        variables: What the reader can choose above the panels.
    """
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(about)
        .tags(["spanflow"])
        .time(since, "now")
        .timezone("browser")
        .refresh("1m")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("spanflow")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["spanflow"])
            .as_dropdown(False)
            .include_vars(True)
            .keep_time(True)
        )
    )
    for variable in variables:
        made = made.with_variable(variable)
    return made


def section(made: dashboard.Dashboard, title: str, *panels: Any, folded: bool = False) -> None:
    """Add a row with its panels to a dashboard.

    Args:
        made: The dashboard.
        title: The row's heading.
        panels: From left to right; those that do not fit any more go on below.
        folded: Show only the heading, until it is clicked; its queries wait until then.
    """
    row = dashboard.Row(title)
    if folded:
        row = row.collapsed(True)
        for panel in panels:
            row = row.with_panel(panel)
        made.with_row(row)
        return
    made.with_row(row)
    for panel in panels:
        made.with_panel(panel)


def numbers(
    title: str,
    about: str,
    queries: Sequence[Builder[Dataquery]],
    shown: Mapping[str, Column],
    *,
    width: int = 24,
    height: int = 4,
) -> stat.Panel:
    """Numbers in large type, side by side.

    Args:
        title: What they are.
        about: What they say, and what they do not.
        queries: What is asked.
        shown: How each is shown, by the name of its column or series.
        width: Of 24.
        height: In rows of Grafana's grid.
    """
    panel = (
        stat.Panel()
        .title(title)
        .description(about)
        .datasource(_asked_of(queries[0]))
        .targets(list(queries))
        .no_value("–")
        .unit("short")
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("/.*/"))
        .graph_mode(BigValueGraphMode.NONE)
        .color_mode(BigValueColorMode.VALUE)
        .color_scheme(_one_colour("text"))
        .height(height)
        .span(width)
    )
    for name, column in shown.items():
        panel = panel.override_by_name(name, shown_as(column))
    return panel


def lines(
    title: str,
    about: str,
    queries: Sequence[Builder[Dataquery]],
    unit: str,
    *,
    width: int = 12,
    height: int = 8,
    name: str = "",
    interval: str = "",
) -> timeseries.Panel:
    """Lines over time.

    Args:
        title: What they are.
        about: What they say.
        queries: What is asked.
        unit: A unit of Grafana's.
        width: Of 24.
        height: In rows of Grafana's grid.
        name: A line's name, where the query gives none: a column or label of Grafana's.
        interval: The least distance of two points.
    """
    panel = _over_time(title, about, queries, unit, ["max", "lastNotNull"])
    panel = panel.height(height).span(width)
    panel = panel.draw_style(GraphDrawStyle.LINE).line_width(2).fill_opacity(8)
    panel = panel.show_points(VisibilityMode.AUTO).span_nulls(True)
    if name:
        panel = panel.display_name(name)
    return panel.interval(interval) if interval else panel


def stacked(
    title: str,
    about: str,
    queries: Sequence[Builder[Dataquery]],
    unit: str,
    *,
    width: int = 12,
    height: int = 8,
    name: str = "",
    interval: str = "1m",
) -> timeseries.Panel:
    """Bars over time, one on the other; all of them together are the whole. As `lines`."""
    panel = _over_time(title, about, queries, unit, ["sum"]).height(height).span(width)
    panel = panel.draw_style(GraphDrawStyle.BARS).fill_opacity(80).line_width(0)
    panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if name:
        panel = panel.display_name(name)
    return panel.interval(interval)


def _over_time(
    title: str,
    about: str,
    queries: Sequence[Builder[Dataquery]],
    unit: str,
    summed: list[str],
) -> timeseries.Panel:
    panel = (
        timeseries.Panel()
        .title(title)
        .description(about)
        .datasource(_asked_of(queries[0]))
        .targets(list(queries))
        .unit(unit)
        .min(0)
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.RIGHT)
            .calcs(summed)
        )
        .tooltip(
            common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
        )
    )
    return _coloured(panel)


def categories(
    title: str,
    about: str,
    query: Builder[Dataquery],
    by: str,
    unit: str,
    columns: Mapping[str, str],
    *,
    width: int = 12,
    height: int = 9,
    stack: bool = False,
) -> barchart.Panel:
    """Horizontal bars, a group of them for each row of a table.

    Args:
        title: What they are.
        about: What they say.
        query: What is asked.
        by: The column that names a row.
        unit: A unit of Grafana's.
        columns: What to call the columns that are drawn, by their names.
        width: Of 24.
        height: In rows of Grafana's grid.
        stack: Put a row's bars one on the other.
    """
    panel = (
        barchart.Panel()
        .title(title)
        .description(about)
        .datasource(_asked_of(query))
        .with_target(query)
        .unit(unit)
        .min(0)
        .height(height)
        .span(width)
        .orientation(VizOrientation.HORIZONTAL)
        .x_field(by)
        .stacking(StackingMode.NORMAL if stack else StackingMode.NONE)
        .show_value(VisibilityMode.AUTO)
        .group_width(0.8)
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .legend(
            common.VizLegendOptions()
            .show_legend(len(columns) > 1)
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    for name, shown in columns.items():
        panel = panel.override_by_name(name, named(shown, COLOURS.get(name, "")))
    return panel


def rows(
    title: str,
    about: str,
    query: Builder[Dataquery],
    columns: Mapping[str, Column],
    *,
    width: int = 24,
    height: int = 9,
) -> table.Panel:
    """A table.

    Args:
        title: What it lists.
        about: What it says.
        query: What is asked.
        columns: How each column is shown, by its name.
        width: Of 24.
        height: In rows of Grafana's grid.
    """
    panel = (
        table.Panel()
        .title(title)
        .description(about)
        .datasource(_asked_of(query))
        .with_target(query)
        .no_value("–")
        .height(height)
        .span(width)
        .show_header(True)
        .filterable(True)
    )
    for name, column in columns.items():
        panel = panel.override_by_name(name, shown_as(column))
    return panel


def flow(
    title: str, about: str, queries: Sequence[Builder[Dataquery]], *, width: int = 14
) -> nodegraph.Panel:
    """A graph of nodes and edges, with a count at each."""
    panel = nodegraph.Panel().title(title).description(about).targets(list(queries))
    panel = panel.datasource(_asked_of(queries[0])).unit("short").height(13).span(width)
    nodes = nodegraph.NodeOptions().main_stat_unit("short").secondary_stat_unit("ms")
    edges = nodegraph.EdgeOptions().main_stat_unit("short").secondary_stat_unit("ms")
    return panel.nodes(nodes).edges(edges)


def _coloured(panel: timeseries.Panel) -> timeseries.Panel:
    for name, colour in COLOURS.items():
        panel = panel.override_by_name(name, coloured(colour))
    return panel


def _one_colour(colour: str) -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(FieldColorModeId.FIXED).fixed_color(colour)


def _asked_of(query: Builder[Dataquery]) -> Any:
    """The data source that a query asks."""
    return query.build().to_json()["datasource"]  # type: ignore[attr-defined]
