# SPDX-License-Identifier: Apache-2.0
"""A compose file as types: every key of the Compose specification, and no other.

What is not of use here is kept as it was written (`Unused`): `fates` says of each what becomes of it. Keys that begin
with `x-` are dropped, but for our own. Short forms become long ones when a file is read (short_forms.py), so that files
can be merged.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from volant.contract.egress import check_egress
from volant.volar.compose import short_forms

Unused = Annotated[Any, Field(default=None)]
Text = Annotated[str, Field(coerce_numbers_to_str=True)]
Duration = Annotated[float, BeforeValidator(short_forms.read_duration), Field(ge=0, le=86_400)]
Bytes = Annotated[int, BeforeValidator(short_forms.read_bytes), Field(ge=0)]
Words = Annotated[list[Text], BeforeValidator(short_forms.read_command)]
Texts = Annotated[list[Text], BeforeValidator(short_forms.read_list)]
Variables = Annotated[dict[str, str | None], BeforeValidator(short_forms.read_mapping)]
Labels = Annotated[dict[str, str], BeforeValidator(short_forms.read_labels)]
FileMode = Annotated[int, BeforeValidator(short_forms.read_mode), Field(ge=0, le=0o7777)]


class ComposeModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_extensions(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        kept = {
            str(key): value
            for key, value in data.items()
            if not str(key).startswith("x-") or key in {field.alias for field in cls.model_fields.values()}
        }
        # `key:` with nothing after it says nothing.
        return {
            key: value for key, value in kept.items() if value is not None or key in ("command", "entrypoint")
        }


class Build(ComposeModel):
    context: str = "."
    dockerfile: str | None = None
    dockerfile_inline: str | None = None
    args: Variables = Field(default_factory=dict)
    target: str | None = None
    platforms: list[str] = Field(default_factory=list)
    additional_contexts: Unused
    cache_from: Unused
    cache_to: Unused
    entitlements: Unused
    extra_hosts: Unused
    isolation: Unused
    labels: Unused
    network: Unused
    no_cache: Unused
    privileged: Unused
    provenance: Unused
    pull: Unused
    sbom: Unused
    secrets: Unused
    shm_size: Unused
    ssh: Unused
    tags: Unused
    ulimits: Unused


class Port(ComposeModel):
    target: int = Field(ge=1, le=65535)
    published: Text | None = Field(None, pattern=r"^([0-9]{1,5}(-[0-9]{1,5})?)?$")
    host_ip: str | None = None
    protocol: Literal["tcp", "udp"] = "tcp"
    mode: str | None = None
    name: str | None = None
    app_protocol: str | None = None


class ServiceVolume(ComposeModel):
    type: Literal["volume", "bind", "tmpfs", "npipe", "cluster", "image"]
    source: str | None = None
    target: str = ""
    read_only: bool = False
    consistency: Unused
    bind: dict[str, Any] | None = None
    volume: Unused
    tmpfs: Unused
    image: Unused


class FileReference(ComposeModel):
    """A config or a secret of a service."""

    source: str
    target: str | None = None
    uid: Text | None = None
    gid: Text | None = None
    mode: FileMode | None = None


class FileToRead(ComposeModel):
    path: str
    required: bool = True
    format: Literal["raw"] | None = None


class Dependency(ComposeModel):
    condition: Literal["service_started", "service_healthy", "service_completed_successfully"] = (
        "service_started"
    )
    restart: bool = False
    required: bool = True


class HealthCheck(ComposeModel):
    disable: bool = False
    test: Annotated[list[Text], BeforeValidator(short_forms.read_test)] | None = None
    interval: Duration | None = None
    timeout: Duration | None = None
    start_period: Duration | None = None
    start_interval: Duration | None = None
    retries: int | None = Field(None, ge=1, le=1000)


class ServiceNetwork(ComposeModel):
    aliases: list[str] = Field(default_factory=list)
    driver_opts: Unused
    gw_priority: Unused
    interface_name: Unused
    ipv4_address: Unused
    ipv6_address: Unused
    link_local_ips: Unused
    mac_address: Unused
    priority: Unused


class Limits(ComposeModel):
    cpus: float | None = Field(None, gt=0, le=256)
    memory: Bytes | None = None
    pids: Unused


class Reservations(ComposeModel):
    cpus: float | None = Field(None, gt=0, le=256)
    memory: Bytes | None = None
    devices: Unused
    generic_resources: Unused


class DeployResources(ComposeModel):
    limits: Limits = Limits.model_validate({})
    reservations: Reservations = Reservations.model_validate({})


class RestartPolicy(ComposeModel):
    condition: Literal["none", "on-failure", "any"] = "any"
    max_attempts: int | None = Field(None, ge=1)
    delay: Unused
    window: Unused


class UpdateConfig(ComposeModel):
    parallelism: int = Field(1, ge=0, le=100)
    order: Literal["start-first", "stop-first"] = "stop-first"
    delay: Unused
    failure_action: Unused
    max_failure_ratio: Unused
    monitor: Unused


class Deploy(ComposeModel):
    replicas: int | None = Field(None, ge=0, le=100)
    resources: DeployResources = DeployResources.model_validate({})
    restart_policy: RestartPolicy | None = None
    labels: Unused
    mode: Unused
    endpoint_mode: Unused
    placement: Unused
    rollback_config: Unused
    update_config: UpdateConfig | None = None


class VolantOptions(ComposeModel):
    """`x-volant`: what Compose has no word for."""

    cpus: int | None = Field(None, ge=1, le=256)
    memory: Bytes | None = None
    disk_size: str | None = Field(None, pattern=r"^[1-9][0-9]*[KMGT]$")
    snapshot: str | None = None
    egress: Annotated[str, AfterValidator(check_egress)] | None = None
    """As `volar vms create --egress`."""


class Service(ComposeModel):
    image: str | None = None
    build: Annotated[Build, BeforeValidator(short_forms.read_build)] | None = None
    command: Words | None = None
    entrypoint: Words | None = None
    environment: Variables = Field(default_factory=dict)
    env_file: Annotated[list[FileToRead], BeforeValidator(short_forms.read_files_to_read)] = Field(
        default_factory=list
    )
    working_dir: str | None = None
    user: Text | None = None
    hostname: str | None = None
    domainname: str | None = None
    container_name: str | None = None
    platform: str | None = None
    pull_policy: str | None = None
    ports: Annotated[list[Port], BeforeValidator(short_forms.read_ports)] = Field(default_factory=list)
    expose: list[Text] = Field(default_factory=list)
    volumes: Annotated[list[ServiceVolume], BeforeValidator(short_forms.read_volumes)] = Field(
        default_factory=list
    )
    configs: Annotated[list[FileReference], BeforeValidator(short_forms.read_references)] = Field(
        default_factory=list
    )
    secrets: Annotated[list[FileReference], BeforeValidator(short_forms.read_references)] = Field(
        default_factory=list
    )
    depends_on: Annotated[dict[str, Dependency], BeforeValidator(short_forms.read_dependencies)] = Field(
        default_factory=dict
    )
    links: list[str] = Field(default_factory=list)
    healthcheck: HealthCheck | None = None
    restart: (
        Annotated[str, Field(pattern=r"^(no|always|unless-stopped|on-failure(:[1-9][0-9]{0,5})?)$")] | None
    ) = None
    stop_signal: str | None = None
    stop_grace_period: Duration | None = None
    labels: Labels = Field(default_factory=dict)
    label_file: Texts = Field(default_factory=list)
    profiles: list[str] = Field(default_factory=list)
    networks: Annotated[dict[str, ServiceNetwork], BeforeValidator(short_forms.read_names)] = Field(
        default_factory=dict
    )
    network_mode: str | None = None
    extra_hosts: Annotated[dict[str, list[str]], BeforeValidator(short_forms.read_hosts)] = Field(
        default_factory=dict
    )
    deploy: Deploy = Deploy.model_validate({})
    scale: int | None = Field(None, ge=0, le=100)
    cpus: float | None = Field(None, gt=0, le=256)
    mem_limit: Bytes | None = None
    extends: Unused
    init: bool | None = None
    attach: bool | None = None
    volant: VolantOptions = Field(default_factory=VolantOptions, alias="x-volant")

    annotations: Unused
    blkio_config: Unused
    cap_add: Unused
    cap_drop: Unused
    cgroup: Unused
    cgroup_parent: Unused
    cpu_count: Unused
    cpu_percent: Unused
    cpu_period: Unused
    cpu_quota: Unused
    cpu_rt_period: Unused
    cpu_rt_runtime: Unused
    cpu_shares: Unused
    cpuset: Unused
    credential_spec: Unused
    develop: Unused
    device_cgroup_rules: Unused
    devices: Unused
    dns: Unused
    dns_opt: Unused
    dns_search: Unused
    external_links: Unused
    gpus: Unused
    group_add: Unused
    ipc: Unused
    isolation: Unused
    logging: Unused
    mac_address: Unused
    mem_reservation: Unused
    mem_swappiness: Unused
    memswap_limit: Unused
    models: Unused
    oom_kill_disable: Unused
    oom_score_adj: Unused
    pid: Unused
    pids_limit: Unused
    post_start: Unused
    pre_stop: Unused
    privileged: Unused
    provider: Unused
    pull_refresh_after: Unused
    read_only: Unused
    runtime: Unused
    security_opt: Unused
    shm_size: Unused
    stdin_open: Unused
    storage_opt: Unused
    sysctls: Unused
    tmpfs: Unused
    tty: Unused
    ulimits: Unused
    use_api_socket: Unused
    userns_mode: Unused
    uts: Unused
    volumes_from: Unused


class Network(ComposeModel):
    name: str | None = None
    external: bool = False
    internal: bool = False
    labels: Labels = Field(default_factory=dict)
    attachable: Unused
    driver: Unused
    driver_opts: Unused
    enable_ipv4: Unused
    enable_ipv6: Unused
    ipam: Unused


class Volume(ComposeModel):
    name: str | None = None
    external: bool = False
    labels: Labels = Field(default_factory=dict)
    size: str | None = Field(None, alias="x-volant-size", pattern=r"^[1-9][0-9]*[KMGT]$")
    driver: Unused
    driver_opts: Unused


class NamedContent(ComposeModel):
    """A config or a secret: from a file, a variable, or written out."""

    file: str | None = None
    environment: str | None = None
    content: str | None = None
    external: bool = False
    name: str | None = None
    labels: Unused
    driver: Unused
    driver_opts: Unused
    template_driver: Unused


class Include(ComposeModel):
    path: Texts = Field(default_factory=list)
    project_directory: str | None = None
    env_file: Texts = Field(default_factory=list)


Named = BeforeValidator(short_forms.read_names)


class Stack(ComposeModel):
    """A whole file, or all of them merged."""

    name: str | None = None
    version: Unused
    include: list[Include] = Field(default_factory=list)
    services: dict[str, Service] = Field(default_factory=dict)
    networks: Annotated[dict[str, Network], Named] = Field(default_factory=dict)
    volumes: Annotated[dict[str, Volume], Named] = Field(default_factory=dict)
    configs: dict[str, NamedContent] = Field(default_factory=dict)
    secrets: dict[str, NamedContent] = Field(default_factory=dict)
    models: Unused

    @model_validator(mode="before")
    @classmethod
    def _includes_by_path(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("include"), list):
            named = [item if isinstance(item, dict) else {"path": item} for item in data["include"]]
            return {**data, "include": named}
        return data
