"""The command line: `marbury VERB RUN`. It parses, calls, prints, and knows no more than that."""

import json
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from marbury import __version__, constitution, pipeline
from marbury.constitution import templates
from marbury.errors import MarburyError, WorkspaceError
from marbury.workspace import Workspace, write_atomic

P = ParamSpec("P")
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="From a constitution in plain language to a calibrated, streaming guard for any language model.\n\n"
    "Begin with [bold]marbury new my-guard[/], edit my-guard/constitution.md, then [bold]marbury run my-guard[/] and "
    "[bold]marbury serve my-guard --upstream URL[/]. Every stage writes plain files in the run folder and is skipped "
    "when nothing it reads has changed.",
)
out = Console()
err = Console(stderr=True)

Run = Annotated[Path, typer.Argument(help="The run folder.", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a setting of marbury.toml: KEY=VALUE, or STAGE.KEY=VALUE with `run`."),
]
Force = Annotated[bool, typer.Option("--force", help="Run the stage although it is done.")]


def main() -> None:
    """The entry point of the `marbury` command."""
    app()


def explained(command: Callable[P, None]) -> Callable[P, None]:
    """Print Marbury's own errors as one message and exit with 1; Ctrl-C says how to go on."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except MarburyError as error:
            err.print(f"[red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as stop:
            err.print("stopped; what is done is kept: run the same command again to go on", highlight=False)
            raise typer.Exit(130) from stop

    return run


@app.command()
@explained
def new(
    folder: Annotated[Path, typer.Argument(help="The run folder to make.", show_default=False)],
    template: Annotated[
        str, typer.Option(help=f"The constitution to begin from: {', '.join(templates.names())}.")
    ] = "orvane",
) -> None:
    """Make a run folder: a constitution to edit and a settings file."""
    ws = Workspace(folder)
    if ws.constitution.exists():
        raise WorkspaceError(f"{folder} holds a constitution.md already: choose another folder, or edit that one")
    text = templates.text(template)
    write_atomic(ws.constitution, text.encode())
    if not ws.settings.exists():
        write_atomic(ws.settings, _settings_file(template).encode())
    out.print(f"made {ws.constitution} (from {template}) and {ws.settings}", highlight=False)
    out.print(f"next: edit the constitution, then `marbury check {folder}` and `marbury run {folder}`", highlight=False)


@app.command()
@explained
def check(path: Annotated[Path, typer.Argument(help="A run folder or a constitution.", show_default=False)]) -> None:
    """Check a constitution before money is spent: gaps, overlaps, missing examples, with line numbers."""
    file = _constitution_file(path)
    policy = constitution.read(file)
    findings = constitution.lint(policy)
    for finding in findings:
        colour = "red" if finding.level == "error" else "yellow"
        out.print(f"[{colour}]{escape(finding.at(str(file)))}[/]", highlight=False, soft_wrap=True)
    errors = sum(finding.level == "error" for finding in findings)
    out.print(
        f"{policy.title}: {len(policy.restricted)} restricted and {len(policy.permitted)} permitted categories, "
        f"version {policy.version[:12]}; {errors} errors, {len(findings) - errors} warnings",
        highlight=False,
    )
    if errors:
        raise typer.Exit(1)


@app.command()
@explained
def diff(
    old: Annotated[Path, typer.Argument(help="The earlier run folder or constitution.", show_default=False)],
    new: Annotated[Path, typer.Argument(help="The later one.", show_default=False)],
) -> None:
    """Say what changed between two constitutions, and which categories it touches."""
    before, after = (constitution.read(_constitution_file(path)) for path in (old, new))
    changes = constitution.diff(before, after)
    for change in changes:
        out.print(escape(str(change)), highlight=False, soft_wrap=True)
    touched = sorted(constitution.touched(before, after))
    if not changes:
        out.print(f"the same rules: version {after.version[:12]}", highlight=False)
    else:
        out.print(f"{before.version[:12]} -> {after.version[:12]}; touches {', '.join(touched) or 'no category'}")


@app.command()
@explained
def run(
    folder: Run,
    set_: Set = None,
    until: Annotated[str, typer.Option(help=f"Stop after this stage: {', '.join(pipeline.STAGES)}.")] = "evaluate",
) -> None:
    """Run every stage that is not done, from synth to evaluate. A killed run goes on where it was."""
    ws = pipeline.open_run(folder)
    if until not in pipeline.STAGES:
        raise typer.BadParameter(f"{until!r} is no stage; there are {', '.join(pipeline.STAGES)}")
    settings = pipeline.load_settings(ws, _overrides(set_, None))
    for name in pipeline.STAGES[: pipeline.STAGES.index(until) + 1]:
        _run_stage(ws, settings, name, force=False)
    if until == "evaluate":
        _show_report(ws)


def _stage_command(name: str, text: str) -> None:
    @explained
    def command(folder: Run, set_: Set = None, force: Force = False) -> None:
        ws = pipeline.open_run(folder)
        _run_stage(ws, pipeline.load_settings(ws, _overrides(set_, name)), name, force=force)
        if name == "evaluate":
            _show_report(ws)

    command.__doc__ = text
    app.command(name, help=text)(command)


_stage_command("synth", "Write examples for every category: with a model, or from the bundled Orvane corpus.")
_stage_command("augment", "Make variants of the examples: encodings, framings, padding, split turns, long histories.")


@app.command()
@explained
def dataset(
    folder: Run,
    set_: Set = None,
    import_: Annotated[
        list[str] | None,
        typer.Option("--import", help="A file of your own labelled rows; its columns are guessed and shown."),
    ] = None,
    force: Force = False,
) -> None:
    """Divide examples, variants and your own rows into train, valid and test, and write a card."""
    ws = pipeline.open_run(folder)
    settings = pipeline.load_settings(ws, _overrides(set_, "dataset"))
    settings, found = pipeline.with_imports(settings, import_ or [])
    for path, columns in found.items():
        read = ", ".join(f"{what} from {name!r}" for what, name in columns.items())
        err.print(escape(f"{path}: {read}"), highlight=False, soft_wrap=True)
    _run_stage(ws, settings, "dataset", force=force)
    if found:
        tables = "".join(f"\n[[dataset.imports]]\npath = {json.dumps(path)}" for path in found)
        told = f"`marbury run` reads marbury.toml alone: to keep this, add to {ws.settings}:{tables}"
        err.print(escape(told), highlight=False, soft_wrap=True)


_stage_command("train", "Train the input and the output classifier.")
_stage_command("calibrate", "Choose the thresholds from harmless traffic at a false-positive rate.")
_stage_command("evaluate", "Attack the guard with held-out attacks and write the report.")


@app.command()
@explained
def show(folder: Run) -> None:
    """Show what is done in a run folder, and what came out."""
    ws = pipeline.open_run(folder)
    rows = ws.rows()
    table = Table("stage", "state", "seconds", "finished", "counts", title=str(folder), title_justify="left")
    settings = pipeline.load_settings(ws)
    for name in pipeline.STAGES:
        row = rows.get(name)
        counts = ", ".join(f"{key} {value}" for key, value in row["counts"].items()) if row else ""
        table.add_row(
            name, _state(ws, settings, name), str(row["seconds"] if row else ""), row["finished"] if row else "", counts
        )
    out.print(table)
    if ws.report.exists():
        _show_report(ws)


@app.command()
@explained
def serve(
    folder: Annotated[
        Path | None, typer.Argument(help="The run folder; needed unless this is a drill.", show_default=False)
    ] = None,
    upstream: Annotated[
        str | None, typer.Option(help="Base URL of the OpenAI-compatible endpoint to guard, ending in /v1.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (default 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (default 8787).")] = None,
    input: Annotated[str | None, typer.Option(help="Judge requests: enforce, shadow or off.")] = None,
    output: Annotated[str | None, typer.Option(help="Judge replies: enforce, shadow or off.")] = None,
    reload: Annotated[
        bool | None, typer.Option("--reload", help="Take over new thresholds and classifiers when they change.")
    ] = None,
    drill: Annotated[
        str | None,
        typer.Option(help="Stop this word in place of what the classifiers would: for `marbury drill`, never for use."),
    ] = None,
    set_: Set = None,
) -> None:
    """Guard an OpenAI-compatible endpoint: point your client's base_url at this server and change nothing else."""
    ws = pipeline.open_run(folder) if folder else None
    flags = {"upstream": upstream, "host": host, "port": port, "input": input, "output": output, "reload": reload}
    overrides = _overrides(set_, "serve")
    overrides.setdefault("serve", {}).update({key: value for key, value in flags.items() if value is not None})
    settings = (
        pipeline.load_settings(ws, overrides)["serve"] if ws else pipeline.bare_serve_settings(overrides["serve"])
    )
    if drill is not None:
        err.print(
            f"[bold red]DRILL[/]: only the word {escape(repr(drill))} is stopped, nothing is judged", highlight=False
        )
        pipeline.serve_drill(settings, drill)
    elif ws is not None:
        pipeline.serve(ws, settings)
    else:
        raise typer.BadParameter("give the run folder whose guard is to be served", param_hint="FOLDER")


@app.command("drill")
@explained
def drill_(
    url: Annotated[
        str | None, typer.Argument(help="URL of the guard, as a client would use it.", show_default=False)
    ] = None,
    own: Annotated[bool, typer.Option("--self", help="Start Marbury's own guard and drill that.")] = False,
    word: Annotated[str, typer.Option(help="The word that the guard stops.")] = "quillstone",
    upstream_host: Annotated[str, typer.Option(help="Address of the scripted upstream.")] = "127.0.0.1",
    upstream_port: Annotated[int, typer.Option(help="Port of the scripted upstream; 0 takes a free one.")] = 8799,
    model: Annotated[str, typer.Option(help="Model to ask the guard for.")] = "drill-1",
    key_env: Annotated[str, typer.Option(help="Environment variable with a key for the guard.")] = "",
    only: Annotated[list[str] | None, typer.Option(help="An endpoint to drill; default: all of them.")] = None,
    limit_s: Annotated[float, typer.Option(help="Longest time for the whole drill, in seconds.")] = 300.0,
    timeout_s: Annotated[float, typer.Option(help="Longest time for one answer, in seconds.")] = 15.0,
    wait_s: Annotated[float, typer.Option(help="How long to wait for the guard, in seconds.")] = 60.0,
    json_: Annotated[Path | None, typer.Option("--json", help="Write every case to this file.")] = None,
    allow_remote: Annotated[bool, typer.Option("--allow-remote", help="Drill a guard on another machine.")] = False,
) -> None:
    """Attack a running guard with a scripted upstream behind it: did anything come through after the word?"""
    import asyncio

    from marbury.drill import command

    plan = command.Plan(
        url=url,
        own=own,
        word=word,
        upstream_host=upstream_host,
        upstream_port=upstream_port,
        model=model,
        key_env=key_env,
        only=tuple(only or ()),
        limit_s=limit_s,
        timeout_s=timeout_s,
        wait_s=wait_s,
        allow_remote=allow_remote,
    )
    report = asyncio.run(command.run(plan, lambda line: err.print(escape(line), highlight=False, soft_wrap=True)))
    if json_ is not None:
        write_atomic(json_, command.as_json(report))
    command.show(report, out)
    if report.failed:
        raise typer.Exit(1)


@app.command()
@explained
def demo(
    folder: Annotated[Path, typer.Argument(help="The run folder of the demonstration.")] = Path("runs/demo"),
) -> None:
    """Show the whole path on Orvane: train, evaluate, then a harmless and a harmful reply through the guard."""
    from marbury.demo import play

    ws = Workspace(folder)
    if not ws.constitution.exists():
        write_atomic(ws.constitution, templates.text("orvane").encode())
        write_atomic(ws.settings, _settings_file("orvane").encode())
    settings = pipeline.load_settings(ws)
    for name in pipeline.STAGES:
        _run_stage(ws, settings, name, force=False)
    _show_report(ws)
    play(ws, out)


@app.command()
def version() -> None:
    """Print the version."""
    out.print(__version__, highlight=False)


def _run_stage(ws: Workspace, settings: Mapping[str, Any], name: str, *, force: bool) -> None:
    step = pipeline.step(ws, settings, name)
    if not force and ws.done(step.stage):
        err.print(f"[dim]{name:<10} done already[/]", highlight=False)
        return
    err.print(f"[bold]{name}[/]", highlight=False)
    ws.run(step.stage, step.outputs, step.door, force=force)
    row = ws.rows()[name]
    counts = ", ".join(f"{key} {value}" for key, value in row["counts"].items())
    err.print(f"{name:<10} {row['seconds']:.0f} s: {counts}", highlight=False, soft_wrap=True)


def _state(ws: Workspace, settings: Mapping[str, Any], name: str) -> str:
    if name not in ws.rows():
        return "[dim]not run[/]"
    try:
        return "[green]done[/]" if ws.done(pipeline.step(ws, settings, name).stage) else "[yellow]out of date[/]"
    except MarburyError:
        return "[yellow]out of date[/]"


def _show_report(ws: Workspace) -> None:
    from marbury.evaluate.report import load
    from marbury.evaluate.table import ladder_table

    out.print(ladder_table(load(ws.report)))
    out.print(f"report: {ws.page}", highlight=False, soft_wrap=True)


def _constitution_file(path: Path) -> Path:
    return path / "constitution.md" if path.is_dir() else path


def _overrides(given: list[str] | None, stage: str | None) -> dict[str, dict[str, Any]]:
    """`--set` flags as tables. A value is read as TOML where it is that, else as text."""
    import tomllib

    tables: dict[str, dict[str, Any]] = {}
    for item in given or []:
        key, equals, value = item.partition("=")
        table, dot, field = key.rpartition(".")
        if not equals or (stage is None and not dot):
            shape = "KEY=VALUE" if stage else "STAGE.KEY=VALUE"
            raise typer.BadParameter(f"--set {item!r} is not {shape}")
        try:
            parsed = tomllib.loads(f"x = {value}")["x"]
        except tomllib.TOMLDecodeError:
            parsed = value
        tables.setdefault(table or str(stage), {})[field] = parsed
    for table in tables:
        if table not in pipeline.TABLES:
            raise typer.BadParameter(f"--set: {table!r} is no stage; there are {', '.join(pipeline.TABLES)}")
    return tables


def _settings_file(template: str) -> str:
    lines = [
        "# Settings of this run: a table per stage, every key optional. They are explained in docs/settings.md.",
        "",
        "[synth]",
    ]
    if template == "orvane":
        lines += ["# model is empty: the bundled Orvane corpus is used.", 'model = ""']
    else:
        lines += [
            "# Who writes the examples: any OpenAI-compatible endpoint.",
            '# model = "openai:MODEL@http://127.0.0.1:8000/v1"',
        ]
    lines += ["", "[calibrate]", "false_positive_rate = 0.01"]
    lines += ["", "[serve]", 'upstream = "http://127.0.0.1:8000/v1"', ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
