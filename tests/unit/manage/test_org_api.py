"""Organisations, members, invites and the audit log, on each of the databases."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from manage.services import Services
from manage.tables import Invite, Membership, Organisation, Role, User
from runtime.settings import ManageSettings
from tests.unit.manage.api import (
    Client,
    NewClient,
    Person,
    add_organisation,
    error_of,
    links,
    log_in,
    log_in_owner,
    mails,
)
from tests.unit.runtime.clocks import JumpingClock

DAY_MS = 24 * 3600 * 1000


class Team:
    """An organisation with one of each role, each at a browser of their own."""

    def __init__(self, organisation_id: str) -> None:
        self.organisation_id = organisation_id
        self.clients: dict[Role, Client] = {}
        self.people: dict[Role, Person] = {}


@pytest.fixture
async def team(new_client: NewClient, services: Services, clock: JumpingClock) -> Team:
    made = Team(await add_organisation(services, "Shop"))
    for role in (Role.OWNER, Role.ADMIN, Role.MEMBER):
        client = await new_client()
        made.clients[role] = client
        made.people[role] = await log_in(
            client,
            services,
            f"{role}@shop.example",
            organisation_id=made.organisation_id,
            role=role,
        )
        clock.ms += 1
    return made


async def roles(services: Services, organisation_id: str) -> dict[str, str]:
    """The members by their addresses."""
    async with services.database.reading() as session:
        rows = await session.execute(
            select(User.email, Membership.role)
            .join(Membership, Membership.user_id == User.id)
            .where(Membership.organisation_id == organisation_id)
        )
        return {row.email: row.role for row in rows}


async def body_of(client: Client, path: str) -> dict[str, Any]:
    response = await client.get(path)
    assert response.status == 200, await response.text()
    found: dict[str, Any] = await response.json()
    return found


async def test_an_organisation_is_made_by_its_owner(client: Client, services: Services) -> None:
    person = await log_in(client, services, "anna@shop.example")
    assert (await body_of(client, "/v1/orgs"))["organisations"] == []
    response = await client.post("/v1/orgs", json={"name": "  Shop & Söhne "})
    made = (await response.json())["organisation"]
    assert response.status == 201
    assert (made["name"], made["role"], made["plan"]) == ("Shop & Söhne", "owner", "unlimited")
    assert (await body_of(client, "/v1/orgs"))["organisations"] == [made]
    assert (await body_of(client, "/v1/auth/me"))["organisation"] == made
    (action,) = (await body_of(client, "/v1/org/actions"))["actions"]
    assert (action["action"], action["target"]) == ("organisation.create", made["id"])
    assert (action["actor"], action["actorEmail"]) == (person.user_id, "anna@shop.example")
    assert action["requestId"] == response.headers["X-Request-Id"]


@pytest.mark.parametrize("name", ["", "   ", "x" * 101, "a\nb", "a\u007fb", None, 5])
async def test_a_name_is_one_line_of_text(client: Client, services: Services, name: object) -> None:
    await log_in_owner(client, services)
    for response in (
        await client.post("/v1/orgs", json={"name": name}),
        await client.patch("/v1/org/settings", json={"name": name}),
    ):
        found = await error_of(response)
        assert (found["status"], found["field"]) == (400, "name")


async def test_without_an_organisation_there_is_nothing_to_see(
    client: Client, services: Services
) -> None:
    await log_in(client, services, "anna@shop.example")
    for path in ("settings", "members", "subscription", "actions"):
        found = await error_of(await client.get(f"/v1/org/{path}"))
        assert (found["status"], found["code"]) == (403, "forbidden")
        assert "create one" in found["message"]


async def test_switching(client: Client, services: Services, clock: JumpingClock) -> None:
    one, two, others = [await add_organisation(services, name) for name in ("A", "B", "C")]
    await log_in(client, services, "anna@shop.example", organisation_id=one, role=Role.OWNER)
    clock.ms += 1
    await log_in(client, services, "anna@shop.example", organisation_id=two, role=Role.MEMBER)
    assert (await body_of(client, "/v1/org/settings"))["organisation"]["id"] == two
    response = await client.post(f"/v1/orgs/{one}/switch")
    assert (await response.json())["organisation"]["role"] == "owner"
    assert (await body_of(client, "/v1/org/settings"))["organisation"]["id"] == one
    assert [o["id"] for o in (await body_of(client, "/v1/orgs"))["organisations"]] == [one, two]
    for wrong in (others, "org_0000000000000000", "%00", "%FF"):
        response = await client.post(f"/v1/orgs/{wrong}/switch")
        assert (await error_of(response))["code"] == "not_found"
    assert (await body_of(client, "/v1/org/settings"))["organisation"]["id"] == one


async def test_settings_and_subscription(client: Client, services: Services) -> None:
    organisation_id = await add_organisation(services, "Shop", plan="pro")
    await log_in(
        client, services, "a@shop.example", organisation_id=organisation_id, role=Role.MEMBER
    )
    body = await body_of(client, "/v1/org/settings")
    assert body["organisation"]["name"] == "Shop"
    found = body["subscription"]
    assert found["plan"] == {"id": "pro", "name": "Pro", "priceCents": 1200}
    assert found["limits"] == {
        "monthlyEvents": 500_000,
        "domains": 25,
        "organisations": 10,
        "logRetentionSeconds": 3 * 24 * 3600,
    }
    assert found["status"] == "active"
    assert {"meta", "tiktok", "pinterest", "snapchat", "reddit"} <= set(
        found["features"]["platforms"]
    )
    # The clock stands in November 2026.
    assert found["period"] == {"since": 1_793_491_200_000, "until": 1_796_083_200_000}
    assert (await body_of(client, "/v1/org/subscription"))["subscription"] == found


async def test_admins_rename(team: Team) -> None:
    for role, status in ((Role.MEMBER, 403), (Role.ADMIN, 200), (Role.OWNER, 200)):
        name = f"Of the {role}"
        response = await team.clients[role].patch("/v1/org/settings", json={"name": name})
        assert response.status == status
    found = (await body_of(team.clients[Role.MEMBER], "/v1/org/settings"))["organisation"]
    assert found["name"] == "Of the owner"


async def test_the_owner_deletes(team: Team, services: Services) -> None:
    for role in (Role.MEMBER, Role.ADMIN):
        assert (await team.clients[role].delete("/v1/org")).status == 403
    await services.store.add_domain("shop.example", team.organisation_id, {})
    response = await team.clients[Role.OWNER].delete("/v1/org")
    assert (await error_of(response))["code"] == "conflict"
    await services.store.delete_domain("shop.example")
    assert (await team.clients[Role.OWNER].delete("/v1/org")).status == 200
    for client in team.clients.values():
        me = await body_of(client, "/v1/auth/me")
        assert (me["organisation"], me["organisations"]) == (None, [])
        assert (await client.get("/v1/org/settings")).status == 403
    async with services.database.reading() as session:
        assert (await session.scalars(select(Organisation))).all() == []


async def test_members_see_who_belongs(team: Team) -> None:
    for role, client in team.clients.items():
        body = await body_of(client, "/v1/org/members")
        shown = [(one["email"], one["role"]) for one in body["members"]]
        assert shown == [(f"{r}@shop.example", r) for r in ("owner", "admin", "member")]
        assert body["invites"] == (None if role is Role.MEMBER else [])


async def test_an_invite(
    team: Team, new_client: NewClient, services: Services, clock: JumpingClock
) -> None:
    admin = team.clients[Role.ADMIN]
    response = await admin.post(
        "/v1/org/members/invite", json={"email": "Ben@Shop.example", "role": "member"}
    )
    made = (await response.json())["invite"]
    assert response.status == 201
    assert (made["email"], made["role"]) == ("ben@shop.example", "member")
    assert made["invitedBy"] == team.people[Role.ADMIN].user_id
    assert made["expiresAt"] - made["createdAt"] == 7 * DAY_MS
    assert (await body_of(admin, "/v1/org/members"))["invites"] == [made]
    (mail,) = mails(services)
    assert mail.startswith("To: ben@shop.example\nSubject: You are invited to Shop\n")
    assert "admin@shop.example invites you" in mail
    # The link proves the address: it logs in and joins, once.
    clock.ms += 1
    ben = await new_client()
    (path,) = links(services)
    joined = await (await ben.get(path)).json()
    assert joined["user"]["email"] == "ben@shop.example"
    assert (joined["organisation"]["id"], joined["organisation"]["role"]) == (
        team.organisation_id,
        "member",
    )
    assert (await (await new_client()).get(path)).status == 401
    body = await body_of(admin, "/v1/org/members")
    assert (len(body["members"]), body["invites"]) == (4, [])
    accepted, created = (await body_of(admin, "/v1/org/actions"))["actions"]
    assert (accepted["action"], accepted["actor"]) == ("invite.accept", joined["user"]["id"])
    assert (created["action"], created["target"]) == ("invite.create", made["id"])


async def test_an_invite_is_of_its_address_alone(
    team: Team, services: Services, new_client: NewClient
) -> None:
    """Whoever is logged in at the browser, the invited address is who joins."""
    await team.clients[Role.OWNER].post(
        "/v1/org/members/invite", json={"email": "ben@shop.example", "role": "admin"}
    )
    carl = await new_client()
    await log_in(carl, services, "carl@shop.example")
    await carl.get(links(services)[0])
    assert (await body_of(carl, "/v1/auth/me"))["user"]["email"] == "ben@shop.example"
    assert "carl@shop.example" not in await roles(services, team.organisation_id)


async def test_what_is_joined_is_the_current_organisation(
    team: Team, services: Services, new_client: NewClient, clock: JumpingClock
) -> None:
    ben = await new_client()
    await log_in_owner(ben, services, "ben@other.example")
    clock.ms += 1
    await team.clients[Role.OWNER].post(
        "/v1/org/members/invite", json={"email": "ben@other.example", "role": "member"}
    )
    body = await (await ben.get(links(services)[0])).json()
    assert body["organisation"]["id"] == team.organisation_id
    assert len(body["organisations"]) == 2
    assert (await body_of(ben, "/v1/org/settings"))["organisation"]["role"] == "member"


async def test_an_invite_lasts_seven_days(
    team: Team, services: Services, new_client: NewClient, clock: JumpingClock
) -> None:
    owner = team.clients[Role.OWNER]
    for email in ("in.time@shop.example", "late@shop.example"):
        await owner.post("/v1/org/members/invite", json={"email": email, "role": "member"})
    client, (in_time, late) = await new_client(), links(services)
    clock.ms += 7 * DAY_MS - 1
    assert (await client.get(in_time)).status == 200
    clock.ms += 1
    assert (await error_of(await client.get(late)))["code"] == "invalid_token"
    assert (await body_of(owner, "/v1/org/members"))["invites"] == []


async def test_an_invite_replaces_what_was_asked_before(
    team: Team, services: Services, new_client: NewClient
) -> None:
    owner, client = team.clients[Role.OWNER], await new_client()
    for role in ("member", "admin"):
        await owner.post("/v1/org/members/invite", json={"email": "b@shop.example", "role": role})
    assert len((await body_of(owner, "/v1/org/members"))["invites"]) == 1
    first, second = links(services)
    assert (await client.get(first)).status == 401
    assert (await (await client.get(second)).json())["organisation"]["role"] == "admin"


async def test_an_invite_is_withdrawn(
    team: Team, services: Services, new_client: NewClient
) -> None:
    made = []
    for email in ("b@shop.example", "c@shop.example"):
        response = await team.clients[Role.OWNER].post(
            "/v1/org/members/invite", json={"email": email, "role": "member"}
        )
        made.append((await response.json())["invite"]["id"])
    client, (first, second) = await new_client(), links(services)
    await client.get(second)
    for role, status in ((Role.MEMBER, 403), (Role.ADMIN, 200), (Role.OWNER, 404)):
        response = await team.clients[role].delete(f"/v1/org/invites/{made[0]}")
        assert response.status == status
    assert (await client.get(first)).status == 401
    # One that was accepted is none any more.
    assert (await team.clients[Role.OWNER].delete(f"/v1/org/invites/{made[1]}")).status == 404


async def test_who_is_a_member_is_not_invited(team: Team, services: Services) -> None:
    body = {"email": "member@shop.example", "role": "admin"}
    response = await team.clients[Role.OWNER].post("/v1/org/members/invite", json=body)
    found = await error_of(response)
    assert (found["status"], found["code"], found["field"]) == (409, "conflict", "email")
    assert mails(services) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"email": "b@shop.example"}, "role"),
        ({"email": "b@shop.example", "role": "owner"}, "role"),
        ({"email": "b", "role": "member"}, "email"),
        ({"email": "b@shop.example", "role": "member", "x": 1}, "x"),
    ],
)
async def test_a_malformed_invite_is_refused(
    team: Team, body: dict[str, object], field: str
) -> None:
    response = await team.clients[Role.OWNER].post("/v1/org/members/invite", json=body)
    found = await error_of(response)
    assert (found["status"], found["field"]) == (400, field)


async def test_members_do_not_invite_and_nobody_is_mailed_all_the_time(
    team: Team, services: Services
) -> None:
    body = {"email": "b@shop.example", "role": "member"}
    post = "/v1/org/members/invite"
    assert (await team.clients[Role.MEMBER].post(post, json=body)).status == 403
    for _ in range(5):
        assert (await team.clients[Role.ADMIN].post(post, json=body)).status == 201
    response = await team.clients[Role.ADMIN].post(post, json=body)
    assert (await error_of(response))["code"] == "rate_limited"
    # These are counted apart from the links that Ben asks for.
    response = await team.clients[Role.ADMIN].post(
        "/v1/auth/login", json={"email": "b@shop.example"}
    )
    assert response.status == 200


async def test_roles_are_changed_by_admins(
    team: Team, services: Services, clock: JumpingClock
) -> None:
    member = team.people[Role.MEMBER].user_id
    path = f"/v1/org/members/{member}"
    assert (await team.clients[Role.MEMBER].patch(path, json={"role": "admin"})).status == 403
    response = await team.clients[Role.ADMIN].patch(path, json={"role": "admin"})
    changed = (await response.json())["member"]
    assert (changed["userId"], changed["role"]) == (member, "admin")
    clock.ms += 1
    assert (await team.clients[Role.MEMBER].patch(path, json={"role": "member"})).status == 200
    # The role is gone at once.
    assert (await team.clients[Role.MEMBER].patch(path, json={"role": "admin"})).status == 403
    assert (await roles(services, team.organisation_id))["member@shop.example"] == "member"
    actions = (await body_of(team.clients[Role.OWNER], "/v1/org/actions"))["actions"]
    assert [one["action"] for one in actions] == ["member.make_member", "member.make_admin"]


async def test_the_owner_is_not_demoted_but_hands_over(team: Team, services: Services) -> None:
    owner, admin = team.people[Role.OWNER].user_id, team.people[Role.ADMIN].user_id
    for role in (Role.OWNER, Role.ADMIN):
        response = await team.clients[role].patch(
            f"/v1/org/members/{owner}", json={"role": "member"}
        )
        assert (await error_of(response))["code"] == "conflict"
    path = f"/v1/org/members/{admin}"
    assert (await team.clients[Role.ADMIN].patch(path, json={"role": "owner"})).status == 403
    itself = await team.clients[Role.OWNER].patch(
        f"/v1/org/members/{owner}", json={"role": "owner"}
    )
    assert (await itself.json())["member"]["role"] == "owner"
    response = await team.clients[Role.OWNER].patch(path, json={"role": "owner"})
    assert (await response.json())["member"]["role"] == "owner"
    assert await roles(services, team.organisation_id) == {
        "owner@shop.example": "admin",
        "admin@shop.example": "owner",
        "member@shop.example": "member",
    }
    assert (await team.clients[Role.OWNER].delete("/v1/org")).status == 403


async def test_there_are_never_two_owners(team: Team, services: Services) -> None:
    """The owner hands over to two people at once, from two browsers."""
    ids = [team.people[role].user_id for role in (Role.ADMIN, Role.MEMBER)]
    answers = await asyncio.gather(
        *(
            team.clients[Role.OWNER].patch(f"/v1/org/members/{one}", json={"role": "owner"})
            for one in ids * 3
        )
    )
    statuses = [one.status for one in answers]
    assert statuses.count(200) == 1
    assert set(statuses) == {200, 403}
    found = await roles(services, team.organisation_id)
    assert sorted(found.values()).count("owner") == 1
    assert found["owner@shop.example"] == "admin"


async def test_the_database_keeps_a_second_owner_out(team: Team, services: Services) -> None:
    with pytest.raises(IntegrityError):
        async with services.database.changing.begin() as session:
            await session.execute(
                update(Membership)
                .where(Membership.user_id == team.people[Role.ADMIN].user_id)
                .values(role=Role.OWNER)
            )


async def test_a_removed_member_is_out_at_once(
    team: Team, new_client: NewClient, services: Services
) -> None:
    member = team.people[Role.MEMBER]
    phone = await new_client()
    await log_in(phone, services, member.email, organisation_id=team.organisation_id)
    path = f"/v1/org/members/{member.user_id}"
    assert (await team.clients[Role.ADMIN].delete(path)).status == 200
    for client in (team.clients[Role.MEMBER], phone):
        assert (await client.get("/v1/org/members")).status == 403
        me = await body_of(client, "/v1/auth/me")
        assert (me["organisation"], me["organisations"]) == (None, [])
        assert (await client.post(f"/v1/orgs/{team.organisation_id}/switch")).status == 404
    assert (await team.clients[Role.ADMIN].delete(path)).status == 404
    # Asked to join again, they are what they are asked to be; the old session stays out.
    await team.clients[Role.ADMIN].post(
        "/v1/org/members/invite", json={"email": member.email, "role": "admin"}
    )
    await (await new_client()).get(links(services)[-1])
    assert (await phone.get("/v1/org/members")).status == 403


async def test_who_may_remove_whom(team: Team, services: Services) -> None:
    ids = {role: person.user_id for role, person in team.people.items()}
    for caller, removed, status in (
        (Role.MEMBER, Role.ADMIN, 403),
        (Role.MEMBER, Role.OWNER, 403),
        (Role.ADMIN, Role.OWNER, 409),
        (Role.OWNER, Role.OWNER, 409),
        (Role.MEMBER, Role.MEMBER, 200),
        (Role.OWNER, Role.ADMIN, 200),
    ):
        response = await team.clients[caller].delete(f"/v1/org/members/{ids[removed]}")
        assert response.status == status, (caller, removed)
    assert await roles(services, team.organisation_id) == {"owner@shop.example": "owner"}


async def test_others_are_not_found(team: Team, client: Client, services: Services) -> None:
    stranger = await log_in_owner(client, services, "stranger@other.example")
    await client.post("/v1/org/members/invite", json={"email": "x@other.example", "role": "member"})
    (invite,) = (await body_of(client, "/v1/org/members"))["invites"]
    owner = team.clients[Role.OWNER]
    path = f"/v1/org/members/{stranger.user_id}"
    for response in (
        await owner.patch(path, json={"role": "member"}),
        await owner.patch(path, json={"role": "owner"}),
        await owner.delete(path),
        await owner.delete(f"/v1/org/invites/{invite['id']}"),
        await owner.delete("/v1/org/members/%00"),
        await owner.delete("/v1/org/invites/%00"),
        await owner.delete("/v1/org/invites/%FF"),
    ):
        assert (await error_of(response))["code"] == "not_found"
    assert len((await body_of(client, "/v1/org/members"))["invites"]) == 1
    assert (await body_of(owner, "/v1/org/actions"))["actions"] == []


async def test_the_audit_log_is_for_admins(team: Team) -> None:
    for role, status in ((Role.MEMBER, 403), (Role.ADMIN, 200), (Role.OWNER, 200)):
        assert (await team.clients[role].get("/v1/org/actions")).status == status


async def test_the_audit_log_is_paged_while_it_grows(team: Team, clock: JumpingClock) -> None:
    owner = team.clients[Role.OWNER]
    for number in range(7):
        await owner.patch("/v1/org/settings", json={"name": f"Name {number}"})
        clock.ms += number % 2  # some in the same millisecond
    all_of_them = (await body_of(owner, "/v1/org/actions"))["actions"]
    assert len(all_of_them) == 7
    assert [one["at"] for one in all_of_them] == sorted(
        (one["at"] for one in all_of_them), reverse=True
    )
    seen, path = [], "/v1/org/actions?limit=3"
    cursor = None
    for _ in range(3):
        page = await body_of(owner, path + (f"&cursor={cursor}" if cursor else ""))
        seen += page["actions"]
        cursor = page["nextCursor"]
        clock.ms += 1
        await owner.patch("/v1/org/settings", json={"name": "Meanwhile"})
    assert cursor is None
    assert seen == all_of_them


@pytest.mark.parametrize(
    "query", ["cursor=x", "cursor=1-2", "limit=0", "limit=201", "limit=x", "page=2"]
)
async def test_a_malformed_page_is_refused(team: Team, query: str) -> None:
    response = await team.clients[Role.OWNER].get(f"/v1/org/actions?{query}")
    found = await error_of(response)
    assert (found["status"], found["field"]) == (400, query.partition("=")[0])


async def test_no_invite_is_readable_at_rest(
    team: Team, services: Services, dump: Callable[[], bytes]
) -> None:
    await team.clients[Role.OWNER].post(
        "/v1/org/members/invite", json={"email": "ben@shop.example", "role": "member"}
    )
    token = links(services)[0].partition("=")[2]
    kept = dump()
    assert b"ben@shop.example" in kept
    assert token.encode() not in kept
    async with services.database.reading() as session:
        assert len((await session.scalars(select(Invite.token_sha256))).one()) == 64


class TestOrganisationsOfAnOwner:
    """Where new organisations are on the free plan."""

    @pytest.fixture
    def manage_settings(self) -> ManageSettings:
        return ManageSettings(development=True, default_plan="free")

    async def test_the_best_plan_counts(self, client: Client, services: Services) -> None:
        await log_in(client, services, "anna@shop.example")
        statuses = [(await client.post("/v1/orgs", json={"name": "A"})).status for _ in range(2)]
        response = await client.post("/v1/orgs", json={"name": "C"})
        found = await error_of(response)
        assert (statuses, found["status"]) == ([201, 201], 403)
        assert found["code"] == "plan_limit_reached"
        assert len((await body_of(client, "/v1/orgs"))["organisations"]) == 2
        async with services.database.changing.begin() as session:
            one = (await session.scalars(select(Organisation).limit(1))).one()
            one.plan_id = "pro"
        statuses = [(await client.post("/v1/orgs", json={"name": "A"})).status for _ in range(9)]
        assert statuses == [201] * 8 + [403]

    async def test_one_more_at_a_time(self, client: Client, services: Services) -> None:
        await log_in(client, services, "anna@shop.example")
        answers = await asyncio.gather(
            *(client.post("/v1/orgs", json={"name": "A"}) for _ in range(6))
        )
        assert sorted(one.status for one in answers) == [201] * 2 + [403] * 4

    async def test_organisations_of_others_do_not_count(
        self, client: Client, services: Services
    ) -> None:
        for role in (Role.MEMBER, Role.ADMIN):
            other = await add_organisation(services, plan="free")
            await log_in(client, services, "a@shop.example", organisation_id=other, role=role)
        assert (await client.post("/v1/orgs", json={"name": "A"})).status == 201

    async def test_nobody_is_handed_too_many(
        self, new_client: NewClient, services: Services
    ) -> None:
        client, other = await new_client(), await new_client()
        ben = await log_in(other, services, "ben@shop.example")
        for _ in range(2):
            await other.post("/v1/orgs", json={"name": "Ben's"})
        owned = await add_organisation(services, plan="free")
        await log_in(client, services, "a@shop.example", organisation_id=owned, role=Role.OWNER)
        await log_in(other, services, ben.email, organisation_id=owned, role=Role.MEMBER)
        path = f"/v1/org/members/{ben.user_id}"
        response = await client.patch(path, json={"role": "owner"})
        assert (await error_of(response))["code"] == "plan_limit_reached"
        assert await roles(services, owned) == {"a@shop.example": "owner", ben.email: "member"}
