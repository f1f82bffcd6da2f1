"""The few kinds of panel that the dashboards are made of, and how they are laid out.

Every panel takes its title, what it means and what to do about it (the `i` in its corner), and the unit.
"""

import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from grafana_foundation_sdk.builders import common as options
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, table, timeseries, xychart
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.xychart import SeriesMapping, XYShowMode

from lull.dashboards.queries import Query

TAG = "lull"
COLUMNS = 24
COUNT, WATTS, WATT_HOURS, GRAMS, BYTES, SHARE, SECONDS = (
    "short", "watt", "watth", "massg", "bytes", "percentunit", "s",
)  # fmt: skip
PER_SECOND, PER_MINUTE = "reqps", "suffix: /min"

SERVICE_STATES = {
    "Asleep": "semi-dark-blue", "Waking": "yellow", "Serving": "green", "Draining": "orange",
    "Suspended": "#808080",
}  # fmt: skip
HOST_STATES = {
    "serving": "green", "idle": "yellow", "starting": "light-blue", "draining": "orange", "unready": "red",
}  # fmt: skip
PLACEMENT_STATES = {
    "Fetching": "light-blue", "Loading": "yellow", "Ready": "green", "Unloading": "orange", "Failed": "red",
}  # fmt: skip

_DATASOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
_PALETTE = dashboard.FieldColorModeId.PALETTE_CLASSIC_BY_NAME  # a model has one colour in every panel
Panel = timeseries.Panel | stat.Panel | statetimeline.Panel | table.Panel | xychart.Panel


def lines(title: str, meaning: str, unit: str, *queries: Query, empty: str = "No data") -> timeseries.Panel:
    """Return a panel of lines over time; `empty` is what it says without any series."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(meaning)
        .unit(unit)
        .min(0)
        .no_value(empty)
        .line_width(1)
        .fill_opacity(8)
        .show_points(common.VisibilityMode.NEVER)
        .color_scheme(build.FieldColor().mode(_PALETTE))
        .legend(_legend())
        .tooltip(_tooltip())
    )
    if unit in (COUNT, PER_MINUTE):
        panel.axis_soft_max(1)  # or a line of zeros would have an axis of millionths
    for ref, query in _lettered(queries):
        panel.with_target(_target(query, ref))
        if query.over:
            panel.override_by_query(ref, _OVER)
    return panel


def signed(panel: timeseries.Panel) -> timeseries.Panel:
    """Let a panel's axis go below zero."""
    config = panel.build().field_config
    assert config is not None  # noqa: S101 - `lines` has set it
    config.defaults.min_val = None
    return panel


def stacked(
    title: str,
    meaning: str,
    unit: str,
    *queries: Query,
    colours: Mapping[str, str] = MappingProxyType({}),
    empty: str = "No data",
) -> timeseries.Panel:
    """Return a panel whose series lie one upon another, for parts of a whole; `colours` are by series."""
    stacking = options.StackingConfig().mode(common.StackingMode.NORMAL).group("A")
    panel = lines(title, meaning, unit, *queries, empty=empty)
    for name, colour in colours.items():
        panel.override_by_name(name, [_property("color", {"mode": "fixed", "fixedColor": colour})])
    return panel.line_width(0).fill_opacity(70).stacking(stacking)


def events(title: str, meaning: str, unit: str, *queries: Query, empty: str = "No data") -> timeseries.Panel:
    """Return a stack of bars, for what happens now and then."""
    return stacked(title, meaning, unit, *queries, empty=empty).draw_style(common.GraphDrawStyle.BARS)


def second_axis(panel: timeseries.Panel, letter: str, unit: str) -> timeseries.Panel:
    """Measure one query's series on the right, in a unit of their own."""
    own = {"unit": unit, "custom.axisPlacement": "right", "min": 0, "custom.axisSoftMax": 1}
    return panel.override_by_query(letter, [_property(name, value) for name, value in own.items()])


def number(title: str, meaning: str, unit: str, query: Query, empty: str = "No data") -> stat.Panel:
    """Return one large number: the latest."""
    return (
        stat.Panel()
        .title(title)
        .description(meaning)
        .unit(unit)
        .no_value(empty)
        .with_target(_target(query, "A"))
        .color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.FIXED).fixed_color("text"))
        .graph_mode(common.BigValueGraphMode.NONE)
        .color_mode(common.BigValueColorMode.VALUE)
        .text_mode(common.BigValueTextMode.VALUE)
        .reduce_options(options.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def named_number(title: str, meaning: str, unit: str, query: Query, empty: str) -> stat.Panel:
    """Return one large number with its legend beside it."""
    return number(title, meaning, unit, query, empty).text_mode(common.BigValueTextMode.VALUE_AND_NAME)


def present_state(title: str, meaning: str, states: Mapping[str, str], query: Query) -> stat.Panel:
    """Return the latest of states that are numbered from 1, as a word in its colour."""
    thresholds = dashboard.FieldColorModeId.THRESHOLDS
    return (
        number(title, meaning, "none", query)
        .mappings(_mappings(states))
        .color_scheme(build.FieldColor().mode(thresholds))
    )


def timeline(
    title: str, meaning: str, states: Mapping[str, str], *queries: Query, empty: str = "No data"
) -> statetimeline.Panel:
    """Return a row per series, coloured by the state that its value numbers from 1."""
    panel = (
        statetimeline.Panel()
        .title(title)
        .description(meaning)
        .unit("none")
        .no_value(empty)
        .mappings(_mappings(states))
        .merge_values(True)
        .show_value(common.VisibilityMode.AUTO)
        .row_height(0.8)
        .fill_opacity(80)
        .line_width(0)
        .color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
        .legend(_legend())
        .tooltip(_tooltip())
    )
    for ref, query in _lettered(queries):
        panel.with_target(_target(query, ref))
    return panel


def frontier(title: str, meaning: str, across: tuple[Query, str], up: tuple[Query, str]) -> xychart.Panel:
    """Return a dot per time step: what one query says, against what another says at that time.

    Args:
        title: The panel's.
        meaning: The panel's description.
        across: A query of one series, and its unit.
        up: The same, for the other axis.
    """
    (x, x_unit), (y, y_unit) = across, up
    series = (
        xychart.XYSeriesConfig()
        .name(xychart.XychartXYSeriesConfigName().fixed(f"{y.legend} against {x.legend}"))
        .frame(xychart.XychartXYSeriesConfigFrame().matcher(_matcher("byIndex", 0)))
        .x(xychart.XychartXYSeriesConfigX().matcher(_matcher("byName", x.legend)))
        .y(xychart.XychartXYSeriesConfigY().matcher(_matcher("byName", y.legend)))
    )
    return (
        xychart.Panel()
        .title(title)
        .description(meaning)
        .unit(y_unit)
        .max_data_points(60)
        .with_target(_target(x, "A"))
        .with_target(_target(y, "B"))
        .with_transformation(_transformation("joinByField", {"byField": "Time", "mode": "inner"}))
        .mapping(SeriesMapping.MANUAL)
        .show(XYShowMode.POINTS)
        .series([series])
        .point_size(xychart.XychartFieldConfigPointSize().fixed(6))
        .override_by_name(x.legend, [_property("unit", x_unit), _property("custom.axisLabel", x.legend)])
        .override_by_name(y.legend, [_property("unit", y_unit), _property("custom.axisLabel", y.legend)])
        .legend(_legend(visible=False))
        .tooltip(_tooltip())
    )


def rows(
    title: str,
    meaning: str,
    labels: Mapping[str, str],
    each: str,
    *columns: tuple[Query, str],
    links: Mapping[str, str],
) -> table.Panel:
    """Return a table with one row per set of labels, as of now.

    Args:
        title: The panel's.
        meaning: The panel's description.
        labels: The labels that are the first columns, and their headings.
        each: PromQL with one series for each row, which has all the labels; its value is not shown.
        columns: A query and its unit; its legend is the heading.
        links: Of a label to the dashboard that its value leads to.
    """
    lettered = list(zip("BCDEFGHIJ", columns, strict=False))
    order = [*labels, *(f"Value #{ref}" for ref, _ in lettered)]
    panel = (
        table.Panel()
        .title(title)
        .description(meaning)
        .unit("short")
        .no_value("")
        .with_transformation(_transformation("merge", {}))
        .with_transformation(
            _transformation(
                "organize",
                {
                    "excludeByName": {"Time": True, "Value #A": True},
                    "indexByName": {name: index for index, name in enumerate(order)},
                },
            )
        )
    )
    panel.with_target(_row_target(Query(each, "row"), "A"))
    for label, heading in labels.items():
        link = [_link(heading, links[label])] if label in links else []
        panel.override_by_name(label, [_property("displayName", heading), _property("links", link)])
    for ref, (query, unit) in lettered:
        panel.with_target(_row_target(query, ref))
        shown = {"displayName": query.legend, "unit": unit} | ({"decimals": 0} if unit == COUNT else {})
        panel.override_by_name(f"Value #{ref}", [_property(name, value) for name, value in shown.items()])
    return panel


def choice(name: str, label: str, values: str) -> build.QueryVariable:
    """Return a variable that is chosen from `values`, a `label_values(…)` of Prometheus."""
    return (
        build.QueryVariable(name)
        .label(label)
        .datasource(_DATASOURCE)
        .query({"query": values, "refId": name})
        .definition(values)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    )


def board(
    uid: str,
    title: str,
    meaning: str,
    variables: Sequence[build.QueryVariable],
    layout: Mapping[str, Sequence[tuple[Panel, int, int]]],
) -> dashboard.Dashboard:
    """Return a dashboard.

    Args:
        uid: Its address, `/d/<uid>`: never changed, for links lead to it.
        title: What lists call it.
        meaning: What it is for.
        variables: What its user chooses, beside the data source.
        layout: The panels of each row with their width (of 24) and height.
    """
    built = (
        build.Dashboard(title)
        .uid(uid)
        .description(meaning)
        .tags([TAG])
        .timezone("browser")
        .time("now-6h", "now")
        .refresh("1m")
        .readonly()
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .link(
            build.DashboardLink("Lull")
            .type(dashboard.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True)
            .placement("")  # in sight, above the panels: the SDK's default hides it in a menu
        )
        .with_variable(build.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for variable in variables:
        built.with_variable(variable)
    numbers = itertools.count(1)
    for heading, panels in layout.items():
        built.with_row(build.Row(heading).id(next(numbers)))
        for panel, width, height in panels:
            built.with_panel(panel.id(next(numbers)).datasource(_DATASOURCE).span(width).height(height))
    return built.build()


def to(uid: str, **variables: str) -> str:
    """Return the link from a table's row to a dashboard, its variables taken from the row's fields."""
    chosen = "".join(
        f'&var-{name}=${{__data.fields["{field}"]:percentencode}}' for name, field in variables.items()
    )
    return f"/d/{uid}?var-datasource=${{datasource}}{chosen}&${{__url_time_range}}"


def _target(query: Query, ref: str) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .expr(query.expr)
        .legend_format(query.legend)
        .ref_id(ref)
        .datasource(_DATASOURCE)
    )


def _row_target(query: Query, ref: str) -> prometheus.Dataquery:
    return _target(query, ref).instant().format(PromQueryFormat.TABLE)


def _lettered(queries: Sequence[Query]) -> list[tuple[str, Query]]:
    return [(chr(ord("A") + index), query) for index, query in enumerate(queries)]


def _legend(visible: bool = True) -> options.VizLegendOptions:
    return (
        options.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(visible)
    )


def _tooltip() -> options.VizTooltipOptions:
    return options.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)


def _mappings(states: Mapping[str, str]) -> list[Any]:
    return [
        dashboard.ValueMap(
            {
                str(index): dashboard.ValueMappingResult(text=state, color=colour, index=index)
                for index, (state, colour) in enumerate(states.items(), 1)
            }
        )
    ]


def _matcher(kind: str, what: object) -> xychart.MatcherConfig:
    return xychart.MatcherConfig().id(kind).options(what)


def _link(title: str, url: str) -> dict[str, object]:
    return {"title": f"Open this {title.lower()}", "url": url}


def _property(name: str, value: object) -> dashboard.DynamicConfigValue:
    return dashboard.DynamicConfigValue(name, value)


def _transformation(name: str, settings: object) -> dashboard.DataTransformerConfig:
    return dashboard.DataTransformerConfig(id_val=name, options=settings)


_OVER = [
    _property("custom.stacking", {"mode": "none"}),
    _property("custom.drawStyle", "line"),
    _property("custom.fillOpacity", 0),
    _property("custom.lineWidth", 2),
    _property("custom.lineStyle", {"fill": "dash", "dash": [8, 6]}),
]
