"""The flags of a run on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, TypeVar

import typer

if TYPE_CHECKING:
    from ..cluster import Cluster, Source

R = TypeVar("R")


@dataclass(frozen=True)
class ClusterFlags:
    """Which cluster makes the records, if one does."""

    panel: ClassVar[str] = "Cluster"

    ray: Annotated[
        bool,
        typer.Option(
            "--ray", help="Run on a Ray cluster: at --ray-address, else at RAY_ADDRESS, else local to this machine."
        ),
    ] = False
    ray_address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="With --ray: the cluster's address, such as 10.0.0.1:6379.")
    ] = None
    actors: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Processes that hold the model. Default: one per GPU, or per machine."),
    ] = None
    actor_cpus: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="CPU cores per actor. Default: its share of the machine's.")
    ] = None
    actor_gpus: Annotated[
        float | None, typer.Option(min=0, metavar="N", help="GPUs per actor. Default: 1 if there are any.")
    ] = None

    def __post_init__(self) -> None:
        given = {
            "ray-address": self.ray_address,
            "actors": self.actors,
            "actor-cpus": self.actor_cpus,
            "actor-gpus": self.actor_gpus,
        }
        if not self.ray and (alone := [f"--{name}" for name, value in given.items() if value is not None]):
            raise typer.BadParameter(f"{alone[0]} requires --ray")
        if (gpus := self.actor_gpus or 0) > 1 and gpus % 1:
            raise typer.BadParameter(f"--actor-gpus {gpus:g}: give a fraction of one GPU, or a whole number of GPUs")

    def join(
        self,
        there: Callable[[], Source[R]],
        paths: Sequence[str],
        say: Callable[[str], None],
        stack: ExitStack,
    ) -> Cluster[R] | None:
        """The cluster that makes the records of paths, if one was asked for and there are any: its machines have each
        made the task by ``there``. ``stack`` lets the cluster go. Raises ClusterError."""
        if not self.ray:
            return None
        if not paths:
            say("--ray has nothing to do: everything is in the results or an index already")
            return None
        from ..cluster import Cluster, Wanted

        wanted = Wanted(self.ray_address, self.actors, self.actor_cpus, self.actor_gpus)
        cluster = Cluster(there, wanted, paths, say)
        return stack.enter_context(closing(cluster))
