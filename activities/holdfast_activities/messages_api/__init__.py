"""The Messages API as a model turn uses it: client, request, streamed answer, failures.

Only these modules know the API's formats. Content stays raw JSON (`list[dict]`) from the stream to the ledger and
back into the next request, so that signatures, unknown block types and unknown stop reasons pass untouched.
`anthropic` takes two seconds to import: import it only inside functions that a worker calls.
"""
