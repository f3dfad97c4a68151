"""pure: what stays: changed as it runs, called by its name again, started where it is down."""

from __future__ import annotations

from compose.model.own import reload_of
from compose.plan import live, names
from compose.plan.actions import (
    ConnectNetwork,
    ContainerRef,
    DisconnectNetwork,
    Existing,
    KillContainer,
    RenameContainer,
    StartContainer,
    UnpauseContainer,
    UpdateContainer,
    WriteFiles,
)
from compose.plan.container import make_limits
from compose.plan.plan import Verb
from compose.plan.services import Keep, ServiceDecision
from compose.plan.steps.creation import creation
from compose.plan.steps.draft import CHECKPOINT, Draft, stop_key
from compose.plan.steps.resources import reconnect
from compose.plan.steps.running import start, stop


def add_kept(draft: Draft, decision: ServiceDecision, kept: Keep) -> None:
    container, name = kept.container, decision.service.name
    ref = Existing(container.id, container.name)
    subject = names.slot(name, container.number)
    done = _update(draft, decision, kept, ref, subject) if kept.cause else []
    if kept.rename:
        change = draft.builder.change(Verb.RENAME, subject, f"is called {container.name}")
        # Whoever has the name now is a left-over, and is removed before.
        done.append(
            draft.builder.step(
                f"rename {subject}", RenameContainer(ref, kept.rename), change,
                after=[CHECKPOINT, f"remove {kept.rename}"],
            )
        )  # fmt: skip
    restart = _restart_cause(draft, kept, name)
    if kept.start_cause == "is paused" and not restart:
        change = draft.builder.change(Verb.UNPAUSE, subject, kept.start_cause)
        key = f"unpause {subject}"
        draft.builder.step(key, UnpauseContainer(ref), change, after=[CHECKPOINT])
        draft.starts[name].append(key)
        return
    if not (restart or (kept.start_cause and not draft.options.no_start)):
        reconnect(draft, name, container, None)
        return
    verb = Verb.RESTART if restart else Verb.START
    change = draft.builder.change(verb, subject, restart or kept.start_cause)
    if restart:
        stop(draft, change, container, undo=StartContainer(ref), until=[f"start {subject}"])
    connected = reconnect(draft, name, container, change)
    start(draft, name, ref, subject, change, after=[stop_key(container), *connected, *done])


def _restart_cause(draft: Draft, kept: Keep, service: str) -> str:
    container = kept.container
    if draft.options.no_start:
        return ""
    if draft.options.heal and container.state == "running" and container.health == "unhealthy":
        return "is unhealthy"
    return draft.decided.restarting.get(service, "") if container.is_running else ""


def _update(
    draft: Draft, decision: ServiceDecision, kept: Keep, ref: ContainerRef, subject: str
) -> list[str]:
    """Networks that come and go, then the limits with the new record: what is interrupted
    before that is found again by the next plan."""
    service = decision.service
    change = draft.builder.change(
        Verb.UPDATE, subject, kept.cause, draft.at(service.name, *kept.differences[0].place),
        draft.fields(service.name, kept.differences),
    )  # fmt: skip
    wanted = creation(draft, decision, kept.container.number, kept.container.name, None)
    come, some_go = live.networks(kept.differences)
    done: list[str] = []
    # A network that is made anew takes all off itself, and those that stay back.
    networks = draft.project.networks
    rebuilt = {networks[key].name for key in draft.decided.rebuilt}
    for key in come:
        network = networks[key].name
        if network in rebuilt:
            continue
        done.append(
            draft.builder.step(
                f"connect {subject} to {key}",
                ConnectNetwork(network, ref, wanted.endpoints[network]),
                change,
                after=[CHECKPOINT, f"create network {key}"],
            )
        )
    staying = {networks[key].name for key in service.networks} | rebuilt
    for network in kept.container.networks:
        if some_go and network not in staying:
            done.append(
                draft.builder.step(
                    f"disconnect {subject} from {network}", DisconnectNetwork(network, ref),
                    change, after=[CHECKPOINT, *done],
                )
            )  # fmt: skip
    has_new_contents = live.has_new_contents(kept.differences)
    if has_new_contents:
        write = WriteFiles(ref, wanted.files)
        done.append(
            draft.builder.step(f"write files of {subject}", write, change, after=[CHECKPOINT])
        )
    is_ours = draft.observed.is_ours
    body = live.update_body(kept.differences, make_limits(service), is_ours=is_ours)
    if is_ours:
        labels = wanted.body["Labels"]
        assert isinstance(labels, dict)
        body["Labels"] = {key: labels[key] for key in (names.SERVICE_RECORD, names.CONFIG_HASH)}
    if not body:  # networks alone: there is nothing to note them in
        return done
    update = UpdateContainer(ref, body)
    done = [draft.builder.step(f"update {subject}", update, change, after=[CHECKPOINT, *done])]
    wish = reload_of(service)
    if has_new_contents and kept.container.state == "running" and wish not in ("", "restart"):
        tell = KillContainer(ref, wish)
        done = [draft.builder.step(f"tell {subject}", tell, change, after=done)]
    return done
