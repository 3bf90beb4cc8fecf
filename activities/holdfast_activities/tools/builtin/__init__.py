"""The tools that ship: a workspace, HTTP, read-only SQL, and what needs the session itself.

They are declared as any author's tools are; what they need of the worker comes through `ToolContext.resources`.
"""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.tools import Tool
from holdfast_activities.tools.builtin.aborts import abort_request
from holdfast_activities.tools.builtin.edits import edit_file, restore_file, write_file
from holdfast_activities.tools.builtin.files import list_files, read_file, search_files
from holdfast_activities.tools.builtin.http import http_request
from holdfast_activities.tools.builtin.results import read_result
from holdfast_activities.tools.builtin.sql import query_sql
from holdfast_activities.tools.builtin.waits import ask_human, wait_until

READ_RESULT = read_result.name
ABORT_REQUEST = abort_request.name
BUILTIN: Mapping[str, Tool] = {
    each.name: each
    for each in (
        list_files,
        read_file,
        search_files,
        write_file,
        edit_file,
        restore_file,
        http_request,
        query_sql,
        ask_human,
        wait_until,
        read_result,
        abort_request,
    )
}
