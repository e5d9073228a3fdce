// A Node.js addon: nativeEach(function) calls the function ten times.
#define NAPI_VERSION 8
#include <node_api.h>

static napi_value native_each(napi_env env, napi_callback_info info)
{
	size_t count = 1;
	napi_value function, global, result = 0;
	if (napi_get_cb_info(env, info, &count, &function, 0, 0) || napi_get_global(env, &global))
		return 0;
	for (int i = 0; i < 10; i++)
		if (napi_call_function(env, global, function, 0, 0, &result))
			return 0;
	return result;
}

NAPI_MODULE_INIT()
{
	napi_value function;
	if (!napi_create_function(env, "nativeEach", NAPI_AUTO_LENGTH, native_each, 0, &function))
		napi_set_named_property(env, exports, "nativeEach", function);
	return exports;
}
