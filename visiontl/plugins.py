"""Plugins: who offers which tasks, backbones, freeze policies and commands. Imports no torch.

Packages are found through the entry-point group `visiontl`. Each is loaded on its own: one that is broken
is kept as `Broken`, with its name, version and cause, and stops nobody else. The core offers its own
backbones, policies and commands through the same hooks. VISIONTL_PLUGINS chooses among the installed packages:
unset means all, "" none, otherwise a list of entry-point names with commas.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pluggy

from visiontl import hookspecs
from visiontl.entry import BackboneEntry, Build
from visiontl.errors import BackboneError, ConfigError, PluginError, VisionTLError, did_you_mean, shortened
from visiontl.freezing.policies import make_policy
from visiontl.hookspecs import Policy, PolicyFactory
from visiontl.kit.packaged import MoreWeights, extended
from visiontl.signatures import arguments_of, lazy, misfit, other_contract
from visiontl.task import CONTRACTS, STEPS, Command, Task

GROUP = "visiontl"
VARIABLE = "VISIONTL_PLUGINS"
STATED = "visiontl_contract"  # of a plugin's module: the version of the contract that its hooks were written for
CAUSE = 400  # characters of what a stranger's module raised
CORE = (
    "visiontl.backbones",
    "visiontl.commands",
    "visiontl.freezing.policies",
    "visiontl.freezing.surgical",
)  # always registered, under their module names

HOOKS = tuple(sorted(name for name in vars(hookspecs) if name.startswith("visiontl_")))
OFFERS = {
    "visiontl_tasks": "tasks",
    "visiontl_backbones": "backbones",
    "visiontl_freeze_policies": "policies",
    "visiontl_commands": "commands",
}
KINDS = {"visiontl_tasks": "Task", "visiontl_backbones": "BackboneEntry", "visiontl_commands": "Command"}
LIGHT = tuple(hook for hook in OFFERS if hook != "visiontl_backbones")  # whose offers can be listed without torch


@dataclass(frozen=True)
class Broken:
    """A package, or one thing that it offers, that cannot be used, and why."""

    name: str  # entry point
    distribution: str
    version: str
    cause: str

    def __str__(self) -> str:
        package = f" ({self.distribution} {self.version})" if self.distribution else ""
        return f"plugin {self.name!r}{package} is broken: {shortened(self.cause, CAUSE)}"


@dataclass(frozen=True)
class Installed:
    """A package of the entry-point group. state: loaded, broken, or off (not named in VISIONTL_PLUGINS). contract: the
    versions that it states, "" where nobody could ask. error: what of it cannot be used, and why."""

    name: str
    distribution: str
    version: str
    contract: str
    state: str
    offers: str
    error: str = ""


@dataclass(frozen=True)
class Offered:
    """What was offered under a hook, by name, and who offered it. `clashes` are names with several offers;
    `refused` are offers that cannot be used."""

    values: Mapping[str, Any]
    owners: Mapping[str, str]
    clashes: Mapping[str, Sequence[str]]
    refused: Mapping[str, Broken]


@dataclass
class _Registry:
    manager: pluggy.PluginManager
    origins: dict[str, tuple[str, str]] = field(default_factory=dict)  # plugin -> (distribution, version)
    broken: list[Broken] = field(default_factory=list)
    off: list[tuple[str, str, str]] = field(default_factory=list)
    contracts: dict[str, set[Any]] = field(default_factory=dict)  # plugin -> versions that its tasks state
    offered: dict[str, Offered] = field(default_factory=dict)
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)  # (plugin, hook) of watchers: how often, this run


def manager() -> pluggy.PluginManager:
    """The pluggy manager with all that could be loaded. Raises PluginError for a name in VISIONTL_PLUGINS
    that is not installed."""
    return _registry().manager


def register(plugin: Any, name: str | None = None) -> None:
    """Add a module or object with hook implementations by hand (notebooks, tests).

    Raises PluginError for one that is misspelt, offers nothing, or is there already.
    """
    name = str(name or getattr(plugin, "__name__", type(plugin).__name__))
    cause = _add(_registry().manager, name, plugin)
    if cause:
        raise PluginError(f"plugin {name!r}: {cause}")
    _registry().offered.clear()


def tell(hook: str, warn: Callable[[str], None], **values: Any) -> None:
    """Call a hook that watches, plugin by plugin. What one raises stops nobody else: it is said in a warning that names
    the plugin, once a run, and the plugin is called again the next time. One that wants the run to stop raises an error
    of visiontl, which becomes a PluginError with its name."""
    registry = _registry()
    if hook == "visiontl_started":
        registry.failed.clear()
    caller, watchers = getattr(registry.manager.hook, hook), registry.manager.get_plugins()
    for name, plugin in [(one.plugin_name, one.plugin) for one in caller.get_hookimpls()]:
        try:
            registry.manager.subset_hook_caller(hook, watchers - {plugin})(**values)
        except VisionTLError as error:
            raise PluginError(f"plugin {name!r} stopped the run in {hook}: {error}") from error
        except (Exception, SystemExit) as error:  # a stranger's function
            registry.failed[name, hook] += 1
            if registry.failed[name, hook] == 1:
                cause = shortened(f"{type(error).__name__}: {error}", CAUSE)
                warn(f"plugin {name!r} failed in {hook}, and training goes on without its part: {cause}")


def failures() -> list[str]:
    """A sentence for each watcher that failed more than once in this run, with its count."""
    return [
        f"{hook} failed {count} times in plugin {name!r}, whose part of the run is incomplete"
        for (name, hook), count in _registry().failed.items()
        if count > 1
    ]


def reset() -> None:
    """Forget all that was loaded or registered; the next question loads anew."""
    _registry.cache_clear()


def broken() -> list[Broken]:
    """All packages and offers that cannot be used."""
    refused = [b for hook in LIGHT for b in _offered(hook).refused.values()]
    return list(dict.fromkeys([*_registry().broken, *refused]))


def warnings() -> list[str]:
    """A sentence for each thing that is installed and cannot be used, and for each name offered twice."""
    lines = [str(one) for one in broken()]
    for hook in LIGHT:
        lines += [_clash(hook, name, owners) for name, owners in _offered(hook).clashes.items()]
    return lines


def tasks() -> dict[str, Task]:
    """All usable tasks by name. A name that two plugins offer is not among them; `task` says so."""
    return dict(_offered("visiontl_tasks").values)


def task(name: str) -> Task:
    """The task of that name.

    Raises ConfigError naming the closest one (and the cause, where a broken plugin has that name), and
    PluginError for a name that two plugins offer or a task that this version cannot run.
    """
    offered = _usable("visiontl_tasks", name)
    if name in offered.values:
        return offered.values[name]
    for one in _registry().broken:
        if one.name == name:
            raise ConfigError(f"task {name!r} is not there: {one}")
    for plugin, distribution, version in _registry().off:
        if plugin == name:
            raise ConfigError(
                f"task {name!r} is not there: plugin {plugin!r} ({distribution} {version}) is switched off "
                f"by {VARIABLE}={os.environ.get(VARIABLE, '')!r}"
            )
    if not offered.values:
        raise ConfigError(f"no task {name!r}: no task plugin is loaded; see `visiontl list plugins`")
    raise ConfigError(f"no task {name!r}{did_you_mean(name, offered.values)}")


find_task = task  # as a task that is made of other tasks calls it


def owner(name: str, hook: str = "visiontl_tasks") -> tuple[str, str, str]:
    """(plugin, distribution, version) that offers the task, or under another hook the thing of that name."""
    plugin = _offered(hook).owners[name]
    return (plugin, *_registry().origins.get(plugin, ("", "")))


def check_steps(task: Task) -> None:
    """Import the steps of a task that are lazy, before data are read and a model is built: PluginError names the plugin
    with the first place that does not exist, or whose signature is another one."""
    for step in STEPS:
        function = getattr(task, step)
        function = getattr(function, "function", function)  # of a step that is guarded
        if isinstance(function, lazy):
            try:
                function.resolve()
            except PluginError as error:
                owners = _offered("visiontl_tasks").owners
                named = f"plugin {owners[task.name]!r}: " if task.name in owners else ""
                raise PluginError(f"{named}{error}") from error.__cause__


def commands() -> dict[str, Command]:
    """All usable commands by name, visiontl's own among them. A name that two plugins offer is not."""
    return dict(_offered("visiontl_commands").values)


def command(name: str) -> Command:
    """The command of that name. Raises ConfigError naming the closest one, and PluginError for one that two plugins
    offer or that cannot be used."""
    offered = _usable("visiontl_commands", name)
    if name in offered.values:
        return offered.values[name]
    raise ConfigError(f"no command {name!r}{did_you_mean(name, offered.values)}")


def backbones() -> dict[str, BackboneEntry]:
    """All backbones on offer, by name. A name that two plugins offer is not among them."""
    return dict(_offered("visiontl_backbones").values)


def backbone_entry(name: str) -> tuple[BackboneEntry, str | None]:
    """The backbone of that name, and a note where the name had to be completed. Raises BackboneError naming
    the closest one, and PluginError for a name that two plugins offer."""
    from visiontl.backbones import registry

    offered = _offered("visiontl_backbones")
    if name in offered.clashes:
        raise PluginError(_clash("visiontl_backbones", name, offered.clashes[name]))
    try:
        return registry.find(name, offered.values)
    except BackboneError as error:
        if offered.refused:  # the one that is missing may be theirs
            raise BackboneError(f"{error}; {'; '.join(map(str, offered.refused.values()))}") from None
        raise


def policies() -> dict[str, PolicyFactory]:
    """Factories of the freeze policies, by name. A name that two plugins offer is not among them."""
    return dict(_offered("visiontl_freeze_policies").values)


def policy(value: str | Mapping[str, Any]) -> Policy:
    """What stands in `freeze.policy` -> the policy. Raises PolicyError naming the closest one, and
    PluginError for a name that two plugins offer."""
    offered = _offered("visiontl_freeze_policies")
    name = next(iter(value), "") if isinstance(value, Mapping) else str(value).partition(":")[0].strip()
    if name in offered.clashes:
        raise PluginError(_clash("visiontl_freeze_policies", name, offered.clashes[name]))
    if name in offered.refused:
        raise PluginError(str(offered.refused[name]))
    made = make_policy(value, offered.values)
    if problem := misfit(name, made, arguments_of(Policy)):
        plugin, *_ = owner(name, "visiontl_freeze_policies")
        raise PluginError(f"plugin {plugin!r}: its factory gave no freeze policy: {problem}")
    return made


def installed() -> list[Installed]:
    """The core's providers and every installed package of the group, with its state and what it offers."""
    registry, found = _registry(), list[Installed]()
    refused = {hook: _offered(hook).refused.values() for hook in LIGHT}
    for name, plugin in registry.manager.list_name_plugin():
        if plugin is not None:
            error = "; ".join(one.cause for hook in refused for one in refused[hook] if one.name == name)
            offers, stated = (
                _describe(registry, name, plugin),
                registry.contracts.get(name, {getattr(plugin, STATED, 1)}),
            )
            contract = ", ".join(map(str, sorted(stated, key=str)))
            found.append(Installed(name, *registry.origins.get(name, ("", "")), contract, "loaded", offers, error))
    found += [Installed(b.name, b.distribution, b.version, "", "broken", "", b.cause) for b in registry.broken]
    found += [Installed(*off, "", "off", "", f"not named in {VARIABLE}") for off in registry.off]
    return sorted(found, key=lambda one: (one.name not in CORE, one.name))


@cache
def _registry() -> _Registry:
    made = pluggy.PluginManager(GROUP)
    made.add_hookspecs(hookspecs)
    registry = _Registry(made)
    version = importlib.import_module(GROUP).__version__
    for name in CORE:
        cause = _add(made, name, importlib.import_module(name))
        if cause:
            raise PluginError(f"{name}: {cause}")
        registry.origins[name] = (GROUP, version)
    wanted = _wanted()
    found = sorted(importlib.metadata.entry_points(group=GROUP), key=lambda point: (point.name, point.value))
    unknown = [name for name in wanted or () if name not in {point.name for point in found}]
    if unknown:
        names = [point.name for point in found]
        raise PluginError(
            "; ".join(
                f"{VARIABLE} names {name!r}, which is not installed{did_you_mean(name, names)}" for name in unknown
            )
        )
    for point in found:
        distribution, version = _origin(point)
        if wanted is not None and point.name not in wanted:
            registry.off.append((point.name, distribution, version))
            continue
        name = point.name if made.get_plugin(point.name) is None else f"{distribution}:{point.name}"
        try:
            cause = _add(made, name, point.load())
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a stranger's module may even call sys.exit
            cause = _cause(error)
        if cause:
            registry.broken.append(Broken(point.name, distribution, version, cause))
        else:
            registry.origins[name] = (distribution, version)
    return registry


def _wanted() -> set[str] | None:
    chosen = os.environ.get(VARIABLE)
    return None if chosen is None else {name.strip() for name in chosen.split(",") if name.strip()}


def _origin(point: importlib.metadata.EntryPoint) -> tuple[str, str]:
    """(distribution, version); a package with damaged metadata may have neither."""
    try:
        return (point.dist.name, point.dist.version) if point.dist else ("", "")
    except Exception:  # importlib.metadata raises several kinds for missing fields
        return "unknown distribution", "unknown version"


def _add(made: pluggy.PluginManager, name: str, plugin: Any) -> str | None:
    """Register a plugin; the cause where it cannot be, and then it is not registered."""
    if told := other_contract("it", getattr(plugin, STATED, 1), CONTRACTS):
        return told
    other = made.get_name(plugin)
    if other is not None:
        return f"it is the same module as plugin {other!r}"
    if made.has_plugin(name):
        return f"another plugin is registered as {name!r}"
    try:
        made.register(plugin, name)
        calls = made.get_hookcallers(plugin) or []
    except (pluggy.PluginValidationError, ValueError) as error:
        made.unregister(name=name)
        return " ".join(str(error).split())
    problems = [
        f"{call.name} is no hook{did_you_mean(call.name, HOOKS)}"
        for call in calls
        if not call.has_spec() and not all(i.optionalhook for i in call.get_hookimpls() if i.plugin is plugin)
    ]
    known = {call.name for call in calls}
    problems += [
        f"{hook} is not marked as a hook; put @visiontl.hookimpl above it"
        for hook in HOOKS
        if hook not in known and callable(getattr(plugin, hook, None))
    ]
    if not problems and not calls:
        problems = [f"it implements no hook; the hooks are {', '.join(HOOKS)}"]
    if problems:
        made.unregister(name=name)
    return "; ".join(problems) or None


def _calls(hook: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """(plugin, its function) for each plugin that implements the hook; the core first, then by name."""
    made = _registry().manager
    found = [(made.get_name(impl.plugin) or "", impl.function) for impl in getattr(made.hook, hook).get_hookimpls()]
    yield from sorted(found, key=lambda pair: (pair[0] not in CORE, pair[0]))


def _offered(hook: str) -> Offered:
    offered = _registry().offered
    if hook not in offered:
        offered[hook] = _collect(hook, _calls(hook))
    return offered[hook]


def _usable(hook: str, name: str) -> Offered:
    """What is offered under a hook. Raises PluginError where two plugins offer the name, or it cannot be used."""
    offered = _offered(hook)
    if name not in offered.values and name in offered.clashes:
        raise PluginError(_clash(hook, name, offered.clashes[name]))
    if name not in offered.values and name in offered.refused:
        raise PluginError(str(offered.refused[name]))
    return offered


def _collect(hook: str, calls: Any) -> Offered:
    values: dict[str, Any] = {}
    owners: dict[str, list[str]] = {}
    refused: dict[str, Broken] = {}
    more: list[tuple[str, MoreWeights]] = []
    for plugin, call in calls:
        origin = _registry().origins.get(plugin, ("", ""))
        try:
            pairs = _named(hook, call())
        except (Exception, SystemExit) as error:  # a stranger's function; whatever it raises is that plugin's cause
            refused[plugin] = Broken(plugin, *origin, f"{hook}: {_cause(error)}")
            continue
        for name, value in pairs:
            if hasattr(value, "contract"):
                _registry().contracts.setdefault(plugin, set()).add(value.contract)
            if plugin not in CORE and (cause := UNFIT[hook](name, value)):
                refused[name] = Broken(plugin, *origin, cause)
                continue
            if isinstance(value, MoreWeights):
                more.append((plugin, value))
                continue
            owners.setdefault(name, []).append(plugin)
            values[name] = value
    refused |= _add_weights(values, more)
    clashes = {name: who for name, who in owners.items() if len(who) > 1}
    return Offered(
        {name: value for name, value in values.items() if name not in clashes},
        {name: who[0] for name, who in owners.items() if name not in clashes},
        clashes,
        refused,
    )


def _add_weights(entries: dict[str, Any], more: Sequence[tuple[str, MoreWeights]]) -> dict[str, Broken]:
    """Put weights that plugins add to others' backbones into the entries; what cannot be added, by the plugin."""
    refused: dict[str, Broken] = {}
    for plugin, one in more:
        try:
            if one.name not in entries:
                near = did_you_mean(one.name, entries)
                raise BackboneError(f"it adds weights to {one.name!r}, which nobody offers{near}")
            entries[one.name] = extended(entries[one.name], one)
        except BackboneError as error:
            refused[plugin] = Broken(plugin, *_registry().origins.get(plugin, ("", "")), str(error))
    return refused


def _named(hook: str, answer: Any) -> list[tuple[str, Any]]:
    """What a hook returned -> [(name, value)]. Raises PluginError for another kind of value."""
    if answer is None:
        return []
    if hook == "visiontl_freeze_policies":
        if not isinstance(answer, Mapping):
            raise PluginError(f"returned {type(answer).__name__}; a mapping from name to factory was expected")
        for name, factory in answer.items():
            if not isinstance(name, str) or not callable(factory):
                raise PluginError(f"offers {name!r}: {type(factory).__name__}; names and factories were expected")
        return list(answer.items())
    kind = KINDS[hook]
    if not isinstance(answer, Sequence) or isinstance(answer, str):
        raise PluginError(f"returned {type(answer).__name__}; a list of visiontl.{kind} was expected")
    for value in answer:
        name = getattr(value, "name", value)
        if not isinstance(name, str):
            of_name = f"whose name is {name!r:.60}; a text" if name is not value else f"in its list; a visiontl.{kind}"
            raise PluginError(f"returned {type(value).__name__} {of_name} was expected")
    return [(value.name, value) for value in answer]


def _cause(error: BaseException) -> str:
    return str(error) if isinstance(error, VisionTLError) else f"{type(error).__name__}: {error}"


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and hasattr(value, "model_fields")


MODEL = "a pydantic model: derive a class from visiontl.Section"
VALUES: Mapping[str, tuple[Callable[[Any], bool], str]] = {  # fields of a task that are no functions
    "config": (_is_model, MODEL),
    "options": (lambda value: value is None or _is_model(value), MODEL),
    "explain_options": (lambda value: value is None or _is_model(value), MODEL),
    "small": (lambda value: isinstance(value, Mapping), "a mapping: {key of the `task:` section: value}"),
    "defaults": (lambda value: isinstance(value, Mapping), 'a mapping: {"freeze.norm_stats": "fixed"}'),
    "commands": (
        lambda value: isinstance(value, list | tuple) and all(isinstance(one, Command) for one in value),
        "a list of visiontl.Command",
    ),
}


def _unfit_task(name: str, value: Any) -> str | None:
    """Why this version cannot run the task; None where it can. Its steps were checked when it was made."""
    if told := other_contract(f"task {name!r}", getattr(value, "contract", None), CONTRACTS):
        return told
    if not isinstance(value, Task):
        return f"task {name!r} is a {type(value).__name__}; a visiontl.Task was expected"
    for key, (fits, expected) in VALUES.items():
        found = getattr(value, key)
        if not fits(found):
            return f"task {name!r}: {key} is {found!r:.60} ({type(found).__name__}); expected {expected}"
    fields = value.config.model_fields
    if value.config.model_config.get("extra") != "forbid":
        return f"task {name!r}: config lets unknown keys pass; derive it from visiontl.Section"
    if "name" in fields:
        return f"task {name!r}: config has a key `name`, which names the task; call it otherwise"
    return None


def _unfit_backbone(name: str, value: Any) -> str | None:
    """Why nothing can be built from the entry; None where it can."""
    if not isinstance(value, BackboneEntry):
        return f"backbone {name!r} is a {type(value).__name__}; a visiontl.BackboneEntry was expected"
    problems = [misfit("build", value.build, (), arguments_of(Build))]
    for step, function in {"spec": value.spec, "state": value.state}.items():
        if function is not None:
            problems.append(misfit(step, function, ("tag",)))
    told = "; ".join(filter(None, problems))
    return f"backbone {name!r}: {told}" if told else None


def _unfit_policy(name: str, value: Any) -> str | None:
    """Why the factory cannot be called; None where it can."""
    problem = misfit(name, value, arguments_of(PolicyFactory))
    return f"freeze policy {problem}" if problem else None


def _unfit_command(name: str, value: Any) -> str | None:
    """Why the command cannot be called; None where it can. Its functions were checked when it was made."""
    if not isinstance(value, Command):
        return f"command {name!r} is a {type(value).__name__}; a visiontl.Command was expected"
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        return f"command {name!r}: a name of small letters, digits and hyphens was expected"
    return None


UNFIT: Mapping[str, Callable[[str, Any], str | None]] = {  # (name, what is offered) -> why it cannot be used
    "visiontl_tasks": _unfit_task,
    "visiontl_backbones": _unfit_backbone,
    "visiontl_freeze_policies": _unfit_policy,
    "visiontl_commands": _unfit_command,
}


def _clash(hook: str, name: str, owners: Sequence[str]) -> str:
    what = {"visiontl_freeze_policies": "freeze policy"}.get(hook, OFFERS[hook].removesuffix("s"))
    named = []
    for plugin in owners:
        distribution, version = _registry().origins.get(plugin, ("", ""))
        named.append(f"{plugin!r} ({distribution} {version})" if distribution else repr(plugin))
    both = " and by plugin ".join(named)
    return f"{what} {name!r} is offered by plugin {both}; uninstall one, or choose with {VARIABLE}"


def _describe(registry: _Registry, name: str, plugin: Any) -> str:
    """'tasks: a, b; backbones; tracker': names where listing them costs no torch."""
    parts: list[str] = []
    for call in registry.manager.get_hookcallers(plugin) or []:
        kind = OFFERS.get(call.name, "tracker")
        names: list[str] = []
        if call.name == "visiontl_backbones" and name not in CORE:  # the core's are a table of thousands
            names = list(_collect(call.name, [pair for pair in _calls(call.name) if pair[0] == name]).values)
        elif call.name in LIGHT:
            offered = _offered(call.name)
            names = [key for key, who in offered.owners.items() if who == name]
            names += [f"{key} (clash)" for key, who in offered.clashes.items() if name in who]
            names += [f"{key} (refused)" for key, one in offered.refused.items() if one.name == name]
            names = names or ["none"]
        parts.append(f"{kind}: {', '.join(names)}" if names else kind)
    return "; ".join(sorted(set(parts)))
