# SPDX-License-Identifier: Apache-2.0
"""volar export: a plugin or a VM for those who run virtual machines elsewhere."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from volant.errors import Conflict, NotFound, UsageError
from volant.volar.client import Client
from volant.volar.export.subject import SUBJECT, Subject, find_subject
from volant.volar.groups import Commands
from volant.volar.target import make_client

if TYPE_CHECKING:
    from volant.contract.boot_files import BootDocument

MANIFESTS, IMAGE = "kubevirt.yaml", "image"
# Reserved for examples (RFC 2606): nobody gets it from where it is not meant to be.
PLACEHOLDER = "registry.example.com"


class Platforms(Commands):
    """Docker's `export` takes the name of a container at once."""

    def explain(self, context: click.Context, name: str) -> UsageError:
        error = super().explain(context, name)
        return UsageError(
            error.what,
            resolution=f"volar export kubevirt {name}; a VM's files: volar vms exec NAME -- tar -C / -c . > FILE",
        )


@click.group(cls=Platforms)
def export() -> None:
    """Write a plugin or a VM for a platform that runs virtual machines."""


@export.command()
@click.argument("subject", metavar="VM|PLUGIN", type=SUBJECT)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="New folder.  [default: NAME-kubevirt]")
@click.option("--image", metavar="REFERENCE", help="Where the image of the disk will be in a registry.")
@click.option("--push", is_flag=True, help="Push it there.")
@click.option("--name", help="Name of the machine there.  [default: that of the VM or plugin]")
@click.option("-n", "--namespace", default="", help="Namespace of all objects.")
@click.option(
    "--persistent", is_flag=True, help="The disk is a volume, filled once from the image (needs CDI)."
)
@click.option("--own-disk", is_flag=True, help="A stopped VM's disk as it is, in place of its plugin's.")
@click.option(
    "--without-attached", is_flag=True, help="Leave out volumes, mounts and secrets, which stay here."
)
@click.pass_context
def kubevirt(
    context: click.Context, subject: str, output: Path | None, image: str | None, push: bool, name: str | None,
    namespace: str, persistent: bool, own_disk: bool, without_attached: bool,
) -> None:  # fmt: skip
    """Write KubeVirt manifests and a container image of the disk with the kernel that boots it.

    The folder holds kubevirt.yaml (VirtualMachine, Service, and a Secret with the VM's variables) and image/, an OCI
    image layout.

    \b
    volar export kubevirt nginx --image registry.example.com/team/nginx-vm:1.27 --push
    volar export kubevirt plugin/nginx:1.27.0 -o nginx-vm
    volar stop db && volar export kubevirt db --own-disk --persistent --without-attached
    kubectl apply -f nginx-kubevirt/kubevirt.yaml
    """
    if push and image is None:
        raise click.UsageError("--push needs --image REFERENCE")
    if namespace and not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", namespace):
        raise click.UsageError(f"{namespace!r} is no namespace: lowercase letters, digits and '-'")
    client = make_client(context)
    found = find_subject(client, subject)
    if own_disk and found.vm is None:
        raise click.UsageError("--own-disk is for VMs: a plugin has no other disk than its own")
    reference = _check_image(image) if image else f"{PLACEHOLDER}/{found.name}:{found.image_tag}"
    folder = output or Path(f"{found.name}-kubevirt")
    with _new_folder(folder) as draft:
        document = _write(
            client, found, draft, reference, name=name, namespace=namespace, persistent=persistent,
            own_disk=own_disk, without_attached=without_attached,
        )  # fmt: skip
        if push:
            from volant.registries import skopeo

            skopeo.push(draft / IMAGE, reference, f"push the image to {reference}")
    for each in document["left_out"]:
        click.echo(f"note: {each} stays here", err=True)
    click.echo(f"wrote {folder / MANIFESTS} and {folder / IMAGE}")
    if image is None:
        click.echo(
            f"the manifests name {reference}: export with --image REFERENCE to name your registry", err=True
        )
    elif not push:
        click.echo(f"next: skopeo copy oci:{folder / IMAGE} docker://{reference}", err=True)


def _check_image(reference: str) -> str:
    from volant.registries.references import check_reference

    return check_reference(reference)


def _write(
    client: Client, subject: Subject, folder: Path, image: str, *, name: str | None, namespace: str, persistent: bool,
    own_disk: bool, without_attached: bool,
) -> BootDocument:  # fmt: skip
    from volant.registries.layout import Layout
    from volant.volar.export.boot_stream import read_boot_files
    from volant.volar.export.disk_image import write_disk_image
    from volant.volar.export.kubevirt import make_objects
    from volant.volar.export.machine import make_name
    from volant.volar.export.yaml_text import write_documents
    from volant.whole_file import write_whole_file

    query: dict[str, str | bool] = {"without_attached": without_attached}
    query |= {"version": subject.plugin["version"]} if subject.vm is None else {"own_disk": own_disk}
    with client.open("GET", subject.path, query=query, timeout_seconds=None) as reply:
        document, files = read_boot_files(reply)
        write_disk_image(Layout(folder / IMAGE), document, files, subject.name)
    machine = subject.describe(document, image)
    if name is not None:
        machine = replace(machine, name=make_name(name))
    objects = make_objects(machine, namespace=namespace, persistent=persistent)
    write_whole_file(folder / MANIFESTS, write_documents(objects).encode(), mode=0o600)
    return document


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """There whole, or not at all."""
    if os.path.lexists(folder):
        raise Conflict(
            f"cannot export to {folder}: it is there already", resolution="name another: -o FOLDER"
        )
    draft = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)  # of one that was killed
    try:
        draft.mkdir(mode=0o700)
    except OSError as error:
        raise NotFound(f"cannot make the folder {folder}: {error.strerror}") from error
    try:
        yield draft
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
