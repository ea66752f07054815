"""The model asks for a function; we run it and give the result back."""

from museway import Museway

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city now",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
messages = [{"role": "user", "content": "What is the weather in Rome?"}]

with Museway() as client:
    reply = client.generate(messages, tools=[WEATHER], tool_choice="required", max_tokens=100)
    for call in reply.tool_calls:
        print(f"{call.name}({call.arguments})")
        function = {"name": call.name, "arguments": call.arguments}
        messages += [
            {"role": "assistant", "tool_calls": [{"id": call.id, "type": "function", "function": function}]},
            {"role": "tool", "tool_call_id": call.id, "content": "Rain, 12 degrees."},
        ]
    print(client.generate(messages, tools=[WEATHER], tool_choice="none", max_tokens=60).text)
