"""Client verbs of the `tinyfleet` command, one file per noun. All of it goes through the SDK, `fleet.client`."""

from __future__ import annotations

import typer

from fleet.cli import (
    access,
    arrays,
    bootstrap,
    boxes,
    collecting,
    commands,
    crons,
    data,
    jobs,
    kernels,
    keys,
    nodes,
    people,
    racks,
    scheduling,
    searches,
    secrets,
    ssh,
    tokens,
    updates,
    webhooks,
    windows,
)

app = typer.Typer(no_args_is_help=True)
nodes.app.command("bootstrap")(bootstrap.bootstrap_node)
nodes.app.command("accept")(boxes.accept_node)
app.add_typer(nodes.app, name="nodes")
app.add_typer(boxes.models_app, name="box-models")
app.add_typer(boxes.stock_app, name="stock")
app.add_typer(racks.app, name="racks")
app.add_typer(jobs.app, name="jobs")
app.add_typer(arrays.app, name="arrays")
app.add_typer(data.app, name="data")
app.add_typer(crons.app, name="crons")
app.add_typer(searches.app, name="searches")
app.add_typer(kernels.app, name="kernels")
app.add_typer(tokens.app, name="tokens")
app.add_typer(people.app, name="people")
app.add_typer(keys.app, name="keys")
app.add_typer(access.app, name="access")
app.add_typer(secrets.app, name="secrets")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(tokens.join_app, name="join-token")
app.command(context_settings=commands.VERBATIM)(commands.run)
app.command("exec")(commands.exec_in)
app.command()(ssh.ssh)
app.command()(commands.logs)
app.command()(commands.artifacts)
app.add_typer(updates.app, name="updates")
app.command()(scheduling.why)
app.command()(scheduling.usage)
app.add_typer(windows.app, name="windows")
app.add_typer(scheduling.tenants_app, name="tenants")
app.command()(collecting.gc)
app.command()(tokens.whoami)
