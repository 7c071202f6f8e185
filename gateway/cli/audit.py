"""``gateway audit``: who changed what, when and from where; read from the store directly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gateway.cli.common import option, print_json, print_rows, setting_flags, settings_of, whole

if TYPE_CHECKING:
    from gateway.control.service import KeyService

_HEADS = ("TIME", "ACTOR", "ACTION", "ENTITY", "TENANT", "SOURCE")
_MEMBERS = ("at", "actor", "action", "entity", "tenantId", "source")


@click.command(short_help="Show who changed what, newest first.")
@setting_flags()
@option("--tenant", metavar="T", help="Only what concerns this tenant.")
@option("--actor", metavar="A", help="Only what this one did, such as cli:ann@host.")
@option("--action", metavar="A", help="Only this action (key.revoke) or family of actions (key).")
@option("--entity", metavar="ID", help="Only what was done to this key, tenant or other entity.")
@option(
    "--since",
    metavar="T",
    help="Only since: so long ago (24h), or 2027-01-31T12:00:00Z.",
)
@option("--limit", metavar="N", type=whole(1, 1000), default=100, show_default=True, help="Rows a page.")
@option("--after", metavar="CURSOR", help="The page after the one that named this cursor.")
@option("--json", "as_json", is_flag=True, help="Print one JSON object: `data`, and the cursor in `next`.")
def audit(
    tenant: str | None,
    actor: str | None,
    action: str | None,
    entity: str | None,
    since: str | None,
    limit: int,
    after: str | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Show who changed what, when and from where, newest first."""
    from gateway.cli.service import with_service
    from gateway.control.lifetime import since_when
    from gateway.control.views import audit_view
    from gateway.store.audit import AuditFilter

    async def work(service: KeyService) -> dict[str, Any]:
        wanted = AuditFilter(
            tenant_id=tenant,
            actor=actor,
            action=action,
            entity=entity,
            since=since_when(since, service.now_ms()) if since is not None else None,
            after=after,
        )
        page = await service.read_audit(wanted, limit=limit)
        return {"data": [audit_view(row) for row in page.rows], "next": page.next}

    page = with_service(settings_of(flags), work)
    if as_json:
        print_json(page)
        return
    print_rows(_HEADS, [tuple(row[member] or "-" for member in _MEMBERS) for row in page["data"]])
    if page["next"]:
        click.echo(f"more: --after {page['next']}", err=True)
