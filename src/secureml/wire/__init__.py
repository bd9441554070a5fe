"""
Bytes to values and back: every format that secureml writes or reads.

Pure: bytes in, values out.  No files, no keys, no clock, no network, so each
module can be tested by its vectors and its laws alone.  A decoder raises
`secureml.errors.FormatError` for bytes it does not accept and nothing else; a
constructor raises `ValueError` or `TypeError`, because there it is the
caller who is wrong.

Import the module that is meant, ``from secureml.wire import dsse``: the
package itself loads none of them.
"""
