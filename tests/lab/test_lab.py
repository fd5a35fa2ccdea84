"""Tests of the lab's own code: what is read from clients and from the kernel, and what is written.

    python3 -m unittest discover --start-directory tests/lab
"""

import json
import unittest
import xml.etree.ElementTree

import judge
import link
import matrix
import measure
import network
import page
import picture
import plan
import servers
import table
from judge import Outcome

CRATE_413 = "413 over HTTP/1.1\nUpload too large: 19.1 MiB. The limit is 4 MiB. Choose a smaller file.\n"
PLAIN_413 = "413 over HTTP/1.1\nlength limit exceeded\n"


def judged(out, err="", code=0, over="http1", server="crate", ok=(0,)):
    return judge.outcome(code, out, err, ok, over, server)


class Judged(unittest.TestCase):
    def test_whole_response_counts(self):
        self.assertEqual(judged(CRATE_413), Outcome("whole"))
        self.assertEqual(judged(PLAIN_413, server="plain"), Outcome("whole"))

    def test_refusal_of_the_other_server_does_not_count(self):
        self.assertEqual(judged(PLAIN_413).kind, "lost")
        self.assertEqual(judged(CRATE_413, server="plain").kind, "lost")

    def test_status_without_its_text_does_not_count(self):
        self.assertEqual(judged("413 over HTTP/1.1\n").kind, "lost")

    def test_response_of_a_client_that_failed_does_not_count(self):
        seen = judged(CRATE_413, "curl: (56) Recv failure: Connection reset by peer", code=56)
        self.assertEqual(seen, Outcome("lost", "curl: (56) Recv failure: Connection reset by peer"))

    def test_failed_write_is_told_from_a_reset(self):
        self.assertTrue(judged("", "BrokenPipeError: [Errno 32] Broken pipe", code=1).failed_write)
        self.assertTrue(judged("", "Error: write EPIPE\n    at afterWrite", code=1).failed_write)
        self.assertFalse(judged("", "ConnectionResetError: [Errno 104] Connection reset by peer", code=1).failed_write)

    def test_another_status_is_kept(self):
        self.assertEqual(judged("502 over HTTP/1.1\n<html>"), Outcome("other", "502"))
        self.assertEqual(judged("400 over HTTP/1.1\nlength limit exceeded", server="plain"), Outcome("other", "400"))

    def test_wget_prints_its_status_as_an_error(self):
        err = "--2026-11-29--  http://10.79.1.2:3000/raw\nHTTP request sent, awaiting response... 413 Payload Too Large\n"
        self.assertEqual(judged("the limit is 4 MiB", err, code=8, ok=[8]), Outcome("whole"))
        lost = judged("", "--2026-11-29--  http://10.79.1.2:3000/raw\nConnecting to x... connected.\nGiving up.\n", code=4, ok=[8])
        self.assertEqual(lost, Outcome("lost", "Giving up."))

    def test_protocol_has_to_fit(self):
        self.assertEqual(judged(CRATE_413, over="h2").kind, "lost")
        for version in ("HTTP/2", "HTTP/2.0", "h2"):
            said = CRATE_413.replace("HTTP/1.1", version)
            self.assertEqual(judged(said, over="h2-tls"), Outcome("whole"))
            self.assertEqual(judged(said, over="http1-tls").kind, "lost")

    def test_grpc_status_counts(self):
        self.assertEqual(judged("RESOURCE_EXHAUSTED the limit is 4 MiB", over="grpc"), Outcome("whole"))
        tonic = judged("", "grpc_upload: ResourceExhausted: the limit is 4 MiB", code=1, over="grpc", ok=[1])
        self.assertEqual(tonic, Outcome("whole"))
        self.assertEqual(judged("UNAVAILABLE Socket closed", over="grpc").kind, "lost")

    def test_line_of_a_browser_counts(self):
        line = "413 over h2: Upload too large: 19.1 MiB. The limit is 4 MiB."
        self.assertEqual(judge.outcome_of_line(line, "h2-tls", "crate"), Outcome("whole"))
        self.assertEqual(judge.outcome_of_line("lost: Failed to fetch", "http1", "plain"), Outcome("lost", "Failed to fetch"))

    def test_reason_has_no_addresses_and_no_noise(self):
        err = "(node:251) [DEP0123] DeprecationWarning: x\nError: connect ECONNREFUSED 10.79.1.2:3000\n    at f (g.js:1)"
        self.assertEqual(judge.reason(err, 1), "Error: connect ECONNREFUSED ADDRESS")
        self.assertEqual(judge.reason("", 3), "exit code 3")


class Table(unittest.TestCase):
    clients = table.load()

    def client(self, name, over="http1"):
        return next(each for each in self.clients if each.name == name and over in each.over)

    def test_words_of_a_shape_and_a_protocol_stand_in(self):
        command = self.client("curl").command("h2", "form", "http://a:1", "/f", 1)
        self.assertIn("--http2-prior-knowledge", command)
        self.assertIn("photopicker=@/f", command)
        self.assertEqual(command[-1], "http://a:1/")
        self.assertFalse([word for word in command if word in ("{over}", "{shape}")])

    def test_shape_without_words_stands_for_itself(self):
        command = self.client("Go net/http").command("http1", "raw", "http://a:1", "/f", 1)
        self.assertEqual(command[1:], ["raw", "1", "http://a:1/raw", "/f"])

    def test_entries_are_complete(self):
        for client in self.clients:
            self.assertTrue(set(client.over) <= set(plan.OVER[plan.DIRECT.name]), client.name)
            has_source = {"pip", "npm", "apt", "cargo", "version", "import"} & set(client.entry)
            self.assertTrue(has_source, client.name)
            for package in (client.entry.get("pip", "x==1"), client.entry.get("npm", "x@1")):
                self.assertRegex(package, r"[=@]\d", f"{client.name} has no version")

    def test_missing_program_is_named(self):
        program = {"run": ["no-such-program", "{url}"]}
        self.assertEqual(table.Client({"name": "x"}, program).missing(), "no no-such-program")
        program = {"run": ["python3"], "files": ["{lab}/no-such-file"]}
        self.assertIn("no-such-file", table.Client({"name": "x", "program": "y"}, program).missing())

    def test_version_is_the_first_number(self):
        self.assertEqual(table.first_number("curl 7.88.1 (x86_64) libcurl/7.88.1"), "7.88.1")
        self.assertEqual(table.first_number("go version go1.19.8 linux/amd64"), "1.19.8")
        self.assertEqual(table.first_number("v20.20.2"), "20.20.2")
        self.assertEqual(table.first_number("nginx version: nginx/1.22.1"), "1.22.1")
        self.assertIsNone(table.first_number(None))


class Plan(unittest.TestCase):
    cells = plan.plan(table.load())

    def test_both_servers_get_the_same_cells(self):
        def of(server):
            return [(c.client, c.over, c.shape, c.front, c.path) for c in self.cells if c.server == server]

        self.assertEqual(of("plain"), of("crate"))

    def test_fronts_are_only_before_http_1_without_a_delay(self):
        behind = [cell for cell in self.cells if cell.front]
        self.assertEqual({cell.front for cell in behind}, set(plan.FRONTS))
        self.assertEqual({(cell.over, cell.path.name) for cell in behind}, {("http1", plan.DIRECT.name)})

    def test_each_client_is_run(self):
        self.assertEqual({cell.client.name for cell in self.cells}, {client.name for client in table.load()})


class Link(unittest.TestCase):
    def direction(self, rate=1e6, loss=0.0, chance=lambda: 0.5):
        self.now = 100.0
        return link.Direction(0, 1, 0.05, rate, loss, clock=lambda: self.now, chance=chance)

    def test_packet_arrives_after_its_delay_and_its_sending(self):
        direction = self.direction()
        direction.send(b"x" * 1000)
        self.assertAlmostEqual(direction.wait(), 0.051)
        self.now += 0.0509
        self.assertEqual(list(direction.arrived()), [])
        self.now += 0.0002
        self.assertEqual(len(list(direction.arrived())), 1)
        self.assertIsNone(direction.wait())

    def test_packets_share_the_rate(self):
        direction = self.direction()
        for _ in range(100):
            direction.send(b"x" * 1000)
        self.now += 0.05 + 0.0505
        self.assertEqual(len(list(direction.arrived())), 50)

    def test_full_queue_drops(self):
        direction = self.direction(rate=1e3)
        for _ in range(1000):
            direction.send(b"x" * 1000)
        self.assertEqual(len(direction.packets), link.QUEUE // 1000 + 1)

    def test_lost_packet_does_not_arrive(self):
        direction = self.direction(loss=0.01, chance=iter([0.5, 0.001, 0.5]).__next__)
        for content in (b"a", b"b", b"c"):
            direction.send(content)
        self.now += 1
        self.assertEqual(list(direction.arrived()), [b"a", b"c"])


class Kernel(unittest.TestCase):
    def test_resets_are_read(self):
        said = "#kernel\nTcpOutRsts                      748                0.0\n"
        self.assertEqual(network.parse_resets(said), 748)
        with self.assertRaises(ValueError):
            network.parse_resets("#kernel\n")


class Fronts(unittest.TestCase):
    def test_configurations_have_no_word_left(self):
        words = {"SERVERS": "s", "UPSTREAM": "u", "LISTEN": "l", "FOLDER": "f", "NAME": "n"}
        for name, (_, template, more) in servers.FRONTS.items():
            filled = servers.fill(template.read_text(), {**words, **more})
            lines = [line for line in filled.splitlines() if not line.startswith("#")]
            for word in [*words, "SETTINGS", "LIMIT"]:
                self.assertNotIn(word, "\n".join(lines), name)


def cell_row(client="wget", server="crate", whole=5, **more):
    row = {
        "client": client, "over": "http1", "shape": "raw", "front": None, "path": plan.DIRECT.name, "server": server,
        "tries": 5, "whole": whole, "other": {}, "lost": {} if whole == 5 else {"reset": 5 - whole},
        "failed_writes": 0, "resets": 0, "front_resets": None, "seconds": 0.1,
    }  # fmt: skip
    return {**row, **more}


def matrix_of(*rows, reasons=()):
    return {
        "date": "2026-11-29", "command": "tests/lab/run", "minutes": 20.0, "system": "Linux 6.18, 2 cores",
        "congestion_control": "cubic", "profile": "debug", "upload_bytes": 20_000_000, "tries": 5, "crates": {"axum": "0.8"},
        "clients": {"wget": "1.21"}, "fronts": {}, "reasons": list(reasons), "notes": [], "gaps": [["php", "no php"]],
        "not_run": [["a", "b"]], "cells": list(rows),
    }  # fmt: skip


class Matrix(unittest.TestCase):
    def test_loss_without_a_reason_is_wrong(self):
        result = matrix_of(cell_row(whole=4), cell_row(server="plain", whole=0))
        self.assertEqual(matrix.unexplained(result), ["wget, http1, raw, no delay, crate: 4 of 5 arrived; 1 × reset"])

    def test_loss_with_a_reason_is_not_wrong(self):
        known = {"client": "wget", "over": ["http1"], "errors": "", "why": "it is old"}
        self.assertEqual(matrix.unexplained(matrix_of(cell_row(whole=4), reasons=[known])), [])

    def test_run_without_the_fault_is_wrong(self):
        self.assertEqual(matrix.control(matrix_of(cell_row(server="plain", whole=4))), [])
        self.assertEqual(matrix.control(matrix_of(cell_row(server="plain", resets=1))), [])
        self.assertEqual(len(matrix.control(matrix_of(cell_row(whole=4), cell_row(server="plain")))), 1)

    def test_reset_is_wrong_even_with_a_reason(self):
        known = {"client": "wget", "over": ["http1"], "errors": "", "why": "it is old"}
        self.assertEqual(len(matrix.unexplained(matrix_of(cell_row(resets=1), reasons=[known]))), 1)

    def test_error_of_another_kind_is_not_explained_by_a_client_that_cannot_stop(self):
        known = {"client": "wget", "over": ["http1"], "errors": matrix.PATIENT_ERRORS, "why": matrix.PATIENT}
        for error, wrong in [("stream was reset: NO_ERROR", 0), ("stream was reset: FLOW_CONTROL_ERROR", 1)]:
            result = matrix_of(cell_row(whole=4, lost={error: 1}), reasons=[known])
            self.assertEqual(len(matrix.unexplained(result)), wrong)

    def test_each_error_of_a_cell_needs_a_reason(self):
        reasons = [
            {"client": "wget", "over": ["http1"], "errors": error, "why": why}
            for error, why in [("NO_ERROR", "it waits"), ("FLOW_CONTROL", "it races")]
        ]
        row = cell_row(whole=3, lost={"FLOW_CONTROL_ERROR": 1, "NO_ERROR": 1})
        self.assertEqual(matrix.reason(matrix_of(reasons=reasons), row), "it races; it waits")
        self.assertIsNone(matrix.reason(matrix_of(reasons=reasons[:1]), row))

    def test_front_that_sends_resets_explains_a_loss(self):
        lost = {"front": "Caddy", "whole": 0}
        self.assertEqual(matrix.unexplained(matrix_of(cell_row(**lost, front_resets=5))), [])
        self.assertEqual(len(matrix.unexplained(matrix_of(cell_row(**lost, front_resets=0)))), 1)

    def test_rows_count_each_kind_of_outcome(self):
        cell = plan.plan(table.load())[0]
        outcomes = [Outcome("whole"), Outcome("lost", "reset", True), Outcome("lost", "reset"), Outcome("other", "502")]
        row = measure.row(cell, outcomes, [3, None], 0.123)
        self.assertEqual((row["tries"], row["whole"], row["failed_writes"], row["resets"]), (4, 1, 1, 3))
        self.assertEqual((row["lost"], row["other"]), ({"reset": 2}, {"502": 1}))

    def test_json_has_a_line_for_each_cell_and_is_whole(self):
        result = matrix_of(cell_row(), cell_row(server="plain"))
        text = matrix.dump(result)
        self.assertEqual(json.loads(text), result)
        self.assertEqual(sum('"wget"' in line and '"over"' in line for line in text.splitlines()), 2)


class Rendered(unittest.TestCase):
    result = matrix_of(
        cell_row(),
        cell_row(server="plain", whole=1, resets=7),
        cell_row("curl & co", front="HAProxy", front_resets=0),
        cell_row("curl & co", server="plain", front="HAProxy", front_resets=0, other={"502": 5}, whole=0, lost={}),
    )

    def test_page_has_the_numbers(self):
        text = page.render(self.result)
        self.assertIn("| wget | **1/5** · 5/5 |", text)
        self.assertIn("| curl & co | **0/5** · 5/5 |", text)
        self.assertIn("each response arrived in 2 of 2 cells", text)
        self.assertIn("| HTTP/1.1 | 7 | 0 |", text)
        self.assertIn("- php: no php.", text)
        self.assertIn("There are none", text)

    def test_page_names_what_is_lost(self):
        text = page.render(matrix_of(cell_row(whole=4), cell_row(server="plain")))
        self.assertIn("**No known reason.** wget, http1, raw, no delay: 4 of 5 arrived; 1 × reset", " ".join(text.split()))

    def test_picture_has_a_cell_for_each_share(self):
        for theme in picture.THEMES:
            root = xml.etree.ElementTree.fromstring(picture.render(self.result, theme))
            shares = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text") if each.get("class") == "share"]
            self.assertEqual(shares, ["20", "100", "0", "100"])

    def test_only_everything_is_100_percent(self):
        self.assertEqual(picture.percent(999, 1000), "99")
        self.assertEqual(picture.percent(1, 1000), "1")
        self.assertEqual([picture.step(*share) for share in [(0, 5), (2, 5), (4, 5), (5, 5)]], [0, 1, 2, 3])

    def test_text_of_each_colour_is_readable(self):
        for theme in picture.THEMES.values():
            for fill, ink in theme["steps"]:
                self.assertGreaterEqual(contrast(fill, ink), 4.5, (fill, ink))


def contrast(one, other):
    """The contrast of two colours, by WCAG 2.2."""

    def luminance(colour):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    darker, lighter = sorted([luminance(one), luminance(other)])
    return (lighter + 0.05) / (darker + 0.05)


if __name__ == "__main__":
    unittest.main()
