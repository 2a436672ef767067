"""Posts bodies to MLflow's scoring server, and records what each means: the texts that reach the model, or the error.

    python capture.py > bodies.json

Needs mlflow-skinny 3.17.2, pandas 3.1.1, scipy, fastapi 0.165.0 and httpx. `api/src/compat/mlflow/replay.rs` compares the
gateway with `bodies.json`.
"""

import json
import sys
import tempfile
import warnings

import mlflow
import numpy as np
import pandas as pd
from fastapi.testclient import TestClient
from mlflow.models import ModelSignature
from mlflow.pyfunc import scoring_server
from mlflow.types import ColSpec, Schema
from mlflow.utils.proto_json_utils import dump_input_data

JSON, CSV = "application/json", "text/csv"
BODIES = []


def add(name, body, content_type=JSON):
    BODIES.append((name, content_type, body.encode() if isinstance(body, str) else body))


def c(name, body, content_type=CSV):
    add("csv_" + name, body, content_type)


# As `ScoringServerClient.invoke` writes them.
TWO = ["Rain fell.", "Snow fell."]
add("client_frame", dump_input_data(pd.DataFrame({"article": TWO})))
add("client_frame_NaN", dump_input_data(pd.DataFrame({"article": TWO, "x": [1.5, np.nan]})))
add("client_frame_None", dump_input_data(pd.DataFrame({"article": TWO, "x": ["a", None]})))
add("client_frame_inf", dump_input_data(pd.DataFrame({"article": TWO, "x": [np.inf, -np.inf]})))
add("client_frame_index", dump_input_data(pd.DataFrame({"article": TWO}, index=["a", "b"])))
add("client_frame_params", dump_input_data(pd.DataFrame({"article": TWO}), params={"num_beams": 2}))
add("client_array", dump_input_data(np.array(TWO)))
add("client_csv", pd.DataFrame({"article": TWO, "x": [1.5, np.nan]}).to_csv(index=False), CSV)
add("client_csv_index", pd.DataFrame({"article": TWO, "x": [1.5, np.nan]}).to_csv(), CSV)
add("client_csv_no_label", pd.DataFrame({"article": TWO}).to_csv(index_label=False), CSV)
# numbers that JSON does not have
for n in ["NaN","Infinity","-Infinity","1e400","-1e400","123456789012345678901234567890","1E5","-0","0.1"]:
    add(f"records_unused_{n}", '{"dataframe_records":[{"article":"Rain fell.","x":%s}]}'%n)
    add(f"split_unused_{n}", '{"dataframe_split":{"columns":["article","x"],"data":[["Rain fell.",%s]]}}'%n)
    add(f"article_{n}", '{"dataframe_records":[{"article":%s}]}'%n)
add("inputs_unused_NaN", '{"inputs":{"article":["Rain fell."],"x":[NaN]}}')
add("instances_unused_NaN", '{"instances":[{"article":"Rain fell.","x":NaN}]}')
add("params_NaN", '{"inputs":["Rain fell."],"params":{"temperature":NaN}}')
add("split_index_NaN", '{"dataframe_split":{"columns":["article"],"index":[NaN],"data":[["Rain fell."]]}}')
add("nan_lower", '{"dataframe_records":[{"article":"Rain fell.","x":nan}]}')
add("inf", '{"dataframe_records":[{"article":"Rain fell.","x":Inf}]}')
add("plus_inf", '{"dataframe_records":[{"article":"Rain fell.","x":+Infinity}]}')
add("nan_in_text", '{"dataframe_records":[{"article":"NaN and -Infinity \\"NaN\\" 1e400","x":NaN}]}')
add("nan_key", '{"dataframe_records":[{"article":"Rain fell.","NaN":1}]}')
add("minus_nan", '{"dataframe_records":[{"article":"Rain fell.","x":-NaN}]}')
add("NaNs", '{"dataframe_records":[{"article":"Rain fell.","x":NaNs}]}')
add("nan_nested", '{"dataframe_records":[{"article":"Rain fell.","x":[{"y":[NaN,1e999]}]}]}')
add("nan_outside", '{"dataframe_records":[{"article":"Rain fell."}],"extra":NaN}')
add("nan_top", 'NaN')
# encodings
add("bom", b'\xef\xbb\xbf{"inputs":["Rain fell."]}')
add("bom_space", b'\xef\xbb\xbf {"inputs":["Rain fell."]}')
add("space_bom", b' \xef\xbb\xbf{"inputs":["Rain fell."]}')
add("two_boms", b'\xef\xbb\xbf\xef\xbb\xbf{"inputs":["Rain fell."]}')
add("utf16le_bom", '{"inputs":["Rain fell."]}'.encode("utf-16"))
add("utf16be", '{"inputs":["Rain fell."]}'.encode("utf-16-be"))
add("utf16le", '{"inputs":["Rain fell."]}'.encode("utf-16-le"))
add("utf32", '{"inputs":["Rain fell."]}'.encode("utf-32"))
add("utf32be", '{"inputs":["Rain fell."]}'.encode("utf-32-be"))
add("utf32le", '{"inputs":["Rain fell."]}'.encode("utf-32-le"))
add("latin1", '{"inputs":["Café."]}'.encode("latin-1"))
add("escape", '{"inputs":["Caf\\u00e9 \\ud83d\\ude00"]}')
add("lone_surrogate", '{"inputs":["Rain \\ud800 fell."]}')
add("lone_surrogate_unused", '{"dataframe_records":[{"article":"Rain fell.","x":"\\ud800"}]}')
add("lone_surrogate_key", '{"dataframe_records":[{"article":"Rain fell.","\\ud800":1}]}')
add("raw_control", b'{"inputs":["Rain\x01 fell."]}')
add("raw_newline", b'{"inputs":["Rain\n fell."]}')
add("raw_del", b'{"inputs":["Rain\x7f fell."]}')
add("nul_escape", '{"inputs":["Rain\\u0000 fell."]}')
add("trailing_space", '{"inputs":["Rain fell."]} \n\t')
add("trailing_garbage", '{"inputs":["Rain fell."]} x')
add("trailing_nul", b'{"inputs":["Rain fell."]}\x00')
add("two_docs", '{"inputs":["Rain fell."]}{"inputs":["Rain fell."]}')
add("trailing_comma", '{"inputs":["Rain fell."],}')
add("comment", '{"inputs":["Rain fell."] /* x */}')
add("single_quotes", "{'inputs':['Rain fell.']}")
add("leading_zero", '{"dataframe_records":[{"article":"Rain fell.","x":01}]}')
add("empty_body", '')
add("space_body", '  ')
add("null", 'null')
add("string", '"Rain fell."')
add("number", '7')
add("list", '["Rain fell."]')
add("form_feed", b'\x0c{"inputs":["Rain fell."]}')
# duplicates
add("dup_field", '{"inputs":["Snow fell."],"inputs":["Rain fell."]}')
add("dup_article", '{"dataframe_records":[{"article":"Snow fell.","article":"Rain fell."}]}')
add("dup_unused", '{"dataframe_records":[{"article":"Rain fell.","x":1,"x":2}]}')
add("dup_columns", '{"dataframe_split":{"columns":["article","article"],"data":[["Rain fell.","Snow fell."]]}}')
add("dup_columns_x", '{"dataframe_split":{"columns":["x","x","article"],"data":[[1,2,"Rain fell."]]}}')
# split
add("split_flat_data", '{"dataframe_split":{"columns":["article"],"data":["Rain fell.","Snow fell."]}}')
add("split_flat_index", '{"dataframe_split":{"columns":["article"],"index":[4,5],"data":["Rain fell.","Snow fell."]}}')
add("split_flat_two_columns", '{"dataframe_split":{"columns":["article","x"],"data":["Rain fell.","Snow fell."]}}')
add("split_mixed", '{"dataframe_split":{"columns":["article"],"data":[["Rain fell."],"Snow fell."]}}')
add("split_mixed2", '{"dataframe_split":{"columns":["article"],"data":["Snow fell.",["Rain fell."]]}}')
add("split_no_columns", '{"dataframe_split":{"data":[["Rain fell."]]}}')
add("split_no_columns_flat", '{"dataframe_split":{"data":["Rain fell."]}}')
add("split_no_columns_two", '{"dataframe_split":{"data":[["Rain fell.","x"]]}}')
add("split_columns_null", '{"dataframe_split":{"columns":null,"data":[["Rain fell."]]}}')
add("split_columns_string", '{"dataframe_split":{"columns":"article","data":[["Rain fell."]]}}')
add("split_columns_dict", '{"dataframe_split":{"columns":{"article":1},"data":[["Rain fell."]]}}')
add("split_columns_empty", '{"dataframe_split":{"columns":[],"data":[["Rain fell."]]}}')
add("split_columns_numbers", '{"dataframe_split":{"columns":["article",1],"data":[["Rain fell.",2]]}}')
add("split_columns_null_name", '{"dataframe_split":{"columns":["article",null],"data":[["Rain fell.",2]]}}')
add("split_short_row", '{"dataframe_split":{"columns":["article","x"],"data":[["Rain fell."]]}}')
add("split_short_rows_mixed", '{"dataframe_split":{"columns":["article","x"],"data":[["Rain fell.",1],["Snow fell."]]}}')
add("split_short_without_article", '{"dataframe_split":{"columns":["x","article"],"data":[[1,"Rain fell."],[2]]}}')
add("split_long_row", '{"dataframe_split":{"columns":["article"],"data":[["Rain fell."],["Snow fell.",2]]}}')
add("split_empty_row", '{"dataframe_split":{"columns":["article"],"data":[[]]}}')
add("split_empty_row_mixed", '{"dataframe_split":{"columns":["article"],"data":[["Rain fell."],[]]}}')
add("split_data_dicts", '{"dataframe_split":{"columns":["article"],"data":[{"article":"Rain fell."}]}}')
add("split_data_dict", '{"dataframe_split":{"columns":["article"],"data":{"article":["Rain fell."]}}}')
add("split_data_string", '{"dataframe_split":{"columns":["article"],"data":"Rain fell."}}')
add("split_data_string_index", '{"dataframe_split":{"columns":["article"],"index":[0,1],"data":"Rain fell."}}')
add("split_data_null", '{"dataframe_split":{"columns":["article"],"data":null}}')
add("split_data_number", '{"dataframe_split":{"columns":["article"],"data":5}}')
add("split_no_data", '{"dataframe_split":{"columns":["article"]}}')
add("split_extra_key", '{"dataframe_split":{"columns":["article"],"data":[["Rain fell."]],"dtypes":["str"]}}')
add("split_index_short", '{"dataframe_split":{"columns":["article"],"index":[1],"data":[["Rain fell."],["Snow fell."]]}}')
add("split_index_long", '{"dataframe_split":{"columns":["article"],"index":[1,2,3],"data":[["Rain fell."],["Snow fell."]]}}')
add("split_index_dup", '{"dataframe_split":{"columns":["article"],"index":[1,1],"data":[["Rain fell."],["Snow fell."]]}}')
add("split_index_strings", '{"dataframe_split":{"columns":["article"],"index":["a","b"],"data":[["Rain fell."],["Snow fell."]]}}')
add("split_index_null", '{"dataframe_split":{"columns":["article"],"index":null,"data":[["Rain fell."]]}}')
add("split_index_number", '{"dataframe_split":{"columns":["article"],"index":7,"data":[["Rain fell."]]}}')
add("split_list", '{"dataframe_split":[["Rain fell."]]}')
add("split_empty_data_no_columns", '{"dataframe_split":{"data":[]}}')
add("split_null", '{"dataframe_split":null}')
# records
add("records_missing_in_one", '{"dataframe_records":[{"article":"Rain fell."},{"x":1}]}')
add("records_strings", '{"dataframe_records":["Rain fell."]}')
add("records_lists", '{"dataframe_records":[["Rain fell."]]}')
add("records_mixed", '{"dataframe_records":[{"article":"Rain fell."},"Snow fell."]}')
add("records_null_row", '{"dataframe_records":[{"article":"Rain fell."},null]}')
add("records_empty", '{"dataframe_records":[]}')
add("records_empty_object", '{"dataframe_records":[{}]}')
add("records_nested_list", '{"dataframe_records":[{"article":["Rain fell."]}]}')
add("records_null_article", '{"dataframe_records":[{"article":null}]}')
add("records_bool_article", '{"dataframe_records":[{"article":true}]}')
add("records_number_article", '{"dataframe_records":[{"article":7}]}')
add("records_mixed_types", '{"dataframe_records":[{"article":"Rain fell."},{"article":7}]}')
add("records_case", '{"dataframe_records":[{"Article":"Rain fell."}]}')
add("records_dict", '{"dataframe_records":{"article":"Rain fell."}}')
add("records_dict_lists", '{"dataframe_records":{"article":["Rain fell."]}}')
add("records_empty_text", '{"dataframe_records":[{"article":""}]}')
# instances, inputs
add("inputs_string", '{"inputs":"Rain fell."}')
add("inputs_number", '{"inputs":7}')
add("inputs_null", '{"inputs":null}')
add("inputs_empty", '{"inputs":[]}')
add("inputs_dict_string", '{"inputs":{"article":"Rain fell."}}')
add("inputs_dict_unused_scalar", '{"inputs":{"article":["Rain fell."],"x":5}}')
add("inputs_dict_lengths", '{"inputs":{"article":["Rain fell."],"x":[1,2]}}')
add("inputs_dict_only_x", '{"inputs":{"x":["Rain fell."]}}')
add("inputs_dict_nested", '{"inputs":{"article":[["Rain fell."]]}}')
add("inputs_nested", '{"inputs":[["Rain fell."],["Snow fell."]]}')
add("inputs_nested_two", '{"inputs":[["Rain fell.","Snow fell."]]}')
add("inputs_records_null", '{"inputs":[{"article":"Rain fell.","x":null}]}')
add("inputs_records_ragged", '{"inputs":[{"article":"Rain fell.","x":1},{"article":"Snow fell."}]}')
add("inputs_bool", '{"inputs":[true]}')
add("inputs_numbers", '{"inputs":[1,2]}')
add("instances_string", '{"instances":"Rain fell."}')
add("instances_dict", '{"instances":{"article":["Rain fell."]}}')
add("instances_nested", '{"instances":[["Rain fell."]]}')
add("instances_ragged", '{"instances":[{"article":"Rain fell.","x":1},{"article":"Snow fell."}]}')
add("instances_ragged_article", '{"instances":[{"article":"Rain fell."},{"x":1}]}')
add("instances_null", '{"instances":null}')
add("instances_empty", '{"instances":[]}')
add("instances_lists_in_row", '{"instances":[{"article":["Rain fell."]}]}')
# top level
add("extra_top", '{"inputs":["Rain fell."],"extra":1}')
add("signature_name", '{"inputs":["Rain fell."],"signature_name":"x"}')
add("params_list", '{"inputs":["Rain fell."],"params":[4]}')
add("params_string", '{"inputs":["Rain fell."],"params":"x"}')
add("params_number", '{"inputs":["Rain fell."],"params":4}')
add("params_null", '{"inputs":["Rain fell."],"params":null}')
add("params_empty", '{"inputs":["Rain fell."],"params":{}}')
add("params_unknown", '{"inputs":["Rain fell."],"params":{"top_z":1}}')
add("messages", '{"messages":[{"role":"user","content":"Rain fell."}]}')
add("input_field", '{"input":"Rain fell."}')
add("prompt", '{"prompt":"Rain fell."}')
add("deep", '{"dataframe_records":[{"article":"Rain fell.","x":'+"["*200+"]"*200+'}]}')
# csv
c("plain", 'article\nRain fell.\nSnow fell.\n')
c("crlf", 'article\r\nRain fell.\r\n')
c("cr", 'article\rRain fell.\rSnow fell.\r')
c("no_end", 'article\nRain fell.')
c("bom", b'\xef\xbb\xbfarticle\nRain fell.\n')
c("bom_quoted", b'\xef\xbb\xbf"article"\nRain fell.\n')
c("two_boms", b'\xef\xbb\xbf\xef\xbb\xbfarticle\nRain fell.\n')
c("short_row", 'article,x\nRain fell.\n')
c("short_rows", 'article,x,y\nRain fell.,1\nSnow fell.\n')
c("short_without_article", 'x,article\n1,Rain fell.\n2\n')
c("long_row", 'article\nRain fell.,2\n')
c("long_row_second", 'article,x\nRain fell.,1\nSnow fell.,1,2\n')
c("long_row_first", 'article,x\nRain fell.,1,2\nSnow fell.,1\n')
c("all_long", 'article,x\n7,Rain fell.,1\n8,Snow fell.,1\n')
c("all_long_trailing_comma", 'article,x\nRain fell.,1,\nSnow fell.,1,\n')
c("index_column", ',article\n0,Rain fell.\n1,Snow fell.\n')
c("implicit_index", 'article\n0,Rain fell.\n1,Snow fell.\n')
c("empty", '')
c("blank", '\n\n')
c("header_only", 'article\n')
c("header_no_end", 'article')
c("blank_lines", '\narticle\n\nRain fell.\n\n\nSnow fell.\n')
c("space_line", 'article\nRain fell.\n  \nSnow fell.\n')
c("space_line_two", 'article,x\nRain fell.,1\n  \nSnow fell.,2\n')
c("empty_cell", 'article,x\n,1\n')
c("quoted_empty", 'article\n""\nRain fell.\n')
c("na", 'article\nNA\n')
c("na_other", 'article,x\nRain fell.,NA\n')
c("number", 'article\n7\n')
c("spaces_header", ' article ,x\nRain fell.,1\n')
c("case_header", 'Article\nRain fell.\n')
c("dup_header", 'article,article\nRain fell.,Snow fell.\n')
c("dup_header_x", 'x,x,article\n1,2,Rain fell.\n')
c("missing", 'text\nRain fell.\n')
c("unclosed", 'article\n"Rain fell.\nSnow fell.\n')
c("unclosed_last", 'article\nRain fell.\n"Snow fell.')
c("unclosed_at_end", 'article\nRain fell.\n"')
c("unclosed_header", '"article\nRain fell.\n')
c("text_after_quote", 'article\n"Rain" fell.\n')
c("text_after_quote2", 'article\n"He said "no", then\nleft."\nWind.\n')
c("text_after_quote_comma", 'article,x\n"Rain" fell.,1\n')
c("quote_in_unquoted", 'article\nA 5" pipe.\n')
c("two_quotes_in_unquoted", 'article\nA "5" pipe.\n')
c("quote_in_unquoted_comma", 'article\nA "big, red" pipe.\n')
c("space_before_quote", 'article,x\nRain fell., "a, b"\n')
c("space_before_quote_article", 'article\n "Rain fell."\n')
c("space_after_quote", 'article\n"Rain fell." \n')
c("doubled", 'article\n"He said ""no""."\n')
c("multiline", 'article\n"Rain\nfell."\n')
c("multiline_crlf", 'article\r\n"Rain\r\nfell."\r\n')
c("multiline_cr", 'article\r"Rain\rfell."\r')
c("mixed_ends", 'article\r\nRain fell.\nSnow fell.\rWind blew.\n')
c("mixed_ends2", 'article\nRain fell.\r\nSnow fell.\rWind blew.\n')
c("cr_in_field", 'article\n"Rain\rfell."\n')
c("backslash", 'article\n"Rain \\"fell\\"."\n')
c("backslash_n", 'article\nRain\\nfell.\n')
c("nul", b'article\nRain\x00 fell.\n')
c("nul_first", b'\x00article\nRain fell.\n')
c("latin1", 'article\nCafé.\n'.encode("latin-1"))
c("utf16", 'article\nRain fell.\n'.encode("utf-16"))
c("semicolon", 'article;x\nRain fell.;1\n')
c("tab", 'article\tx\nRain fell.\t1\n')
c("comment", '#x\narticle\nRain fell.\n')
c("json", '{"inputs":["Rain fell."]}')
c("ctrl_z", b'article\nRain fell.\n\x1a')
c("trailing_comma_header", 'article,\nRain fell.,\n')
c("only_comma_row", 'article,x\n,\nRain fell.,1\n')
c("charset", 'article\nRain fell.\n', "text/csv; charset=utf-8")
c("charset_upper", 'article\nRain fell.\n', "text/csv; charset=UTF-8")
c("charset_quoted", 'article\nRain fell.\n', 'text/csv; charset="utf-8"')
c("charset_latin1", 'article\nRain fell.\n', "text/csv; charset=iso-8859-1")
c("header_param", 'article\nRain fell.\n', "text/csv; header=present")
c("upper_type", 'article\nRain fell.\n', "Text/CSV")
add("charset_latin1", '{"inputs":["Rain fell."]}', "application/json; charset=latin1")
add("charset_utf8", '{"inputs":["Rain fell."]}', "application/json; charset=utf8")
add("charset_upper", '{"inputs":["Rain fell."]}', "application/json; charset=UTF-8")
add("charset_space", '{"inputs":["Rain fell."]}', "application/json ;charset=utf-8 ")
add("charset_name_upper", '{"inputs":["Rain fell."]}', "application/json; Charset=utf-8")
add("charset_quoted", '{"inputs":["Rain fell."]}', 'application/json; charset="utf-8"')
add("trailing_semicolon", '{"inputs":["Rain fell."]}', 'application/json;')
add("upper_type", '{"inputs":["Rain fell."]}', 'Application/JSON')
add("json_sub", '{"inputs":["Rain fell."]}', 'application/vnd.x+json')
add("parquet", 'PAR1', 'application/vnd.apache.parquet')


class Echo(mlflow.pyfunc.PythonModel):
    """Returns the texts that it gets. Fails on anything else, as a tokenizer does."""

    def predict(self, context, model_input, params=None):
        texts = model_input["article"].tolist()
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("text input must be of type str")
        return pd.DataFrame({"summarization": texts})


def server():
    signature = ModelSignature(
        Schema([ColSpec("string", "article")]), Schema([ColSpec("string", "summarization")])
    )
    folder = tempfile.mkdtemp() + "/model"
    mlflow.pyfunc.save_model(folder, python_model=Echo(), signature=signature, pip_requirements=[])
    app = scoring_server.init(mlflow.pyfunc.load_model(folder))
    return TestClient(app, raise_server_exceptions=False)


def whole(text):
    """Replaces halves of surrogate pairs, which UTF-8 does not have."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def record(client, name, content_type, body):
    response = client.post("/invocations", content=body, headers={"content-type": content_type})
    entry = {"name": name, "content_type": content_type}
    try:
        entry["body"] = body.decode()
    except UnicodeDecodeError:
        entry["body_hex"] = body.hex()
    entry["status"] = response.status_code
    if response.status_code == 200:
        entry["texts"] = [whole(row["summarization"]) for row in response.json()["predictions"]]
    elif response.headers["content-type"] == "application/json":
        entry["error_code"] = response.json()["error_code"]
    return entry


def main():
    warnings.filterwarnings("ignore")
    client = server()
    lines = [json.dumps(record(client, *body)) for body in BODIES]
    sys.stdout.write("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
